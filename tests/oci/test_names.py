"""Names and tags: PROTOCOL.md rows 0.1 and 0.2, HAZARDS.md "names"."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distsql.errors import DigestInvalidError, NameInvalidError, ReferenceInvalidError, RegistryError
from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName, check_tag, is_tag, parse_reference

# The specification's own expressions, word for word.
NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*", re.ASCII)
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)

OUTSIDE = [
    "",
    "/",
    "a/",
    "/a",
    "a//b",
    "..",
    "a/../b",
    "../etc",
    "a/./b",
    "a%2fb",
    "a%00",
    "a\0",
    "a/b\n",
    "\na",
    "a b",
    "A",
    "acme/Web",
    "a___b",
    "a..b",
    "a.-b",
    "-a",
    "a-",
    "_a",
    "a_",
    ".a",
    "a.",
    "a:b",
    "a@b",
    "a\\b",
    "a'b",
    'a"b',
    "\uff11\uff12",
    "a\u0661",
    "caf\u00e9",
    "cafe\u0301",
    "\u212a",
    "\ud800",
]


WORDS = st.text("abz019", min_size=1, max_size=5)
SEPARATORS = st.sampled_from([".", "_", "__", "-", "---", "/"])
NAMES = st.builds(
    lambda first, rest: first + "".join(separator + word for separator, word in rest),
    WORDS,
    st.lists(st.tuples(SEPARATORS, WORDS), max_size=8),
)


@settings(deadline=None)
@given(NAMES)
def test_names_of_the_grammar(text: str) -> None:
    """Row 0.1: what the grammar has is a name; the full name reads as the same name."""
    assert NAME.fullmatch(text)
    name = RepositoryName.parse(text)
    assert str(name) == (text if "/" in text else f"library/{text}")
    assert RepositoryName.parse(str(name)) == name


@settings(deadline=None)
@given(st.text(max_size=300))
def test_other_text_is_refused(text: str) -> None:
    """Row 0.1: exactly the grammar, and no other error."""
    try:
        RepositoryName.parse(text)
    except NameInvalidError:
        return
    assert NAME.fullmatch(text)


@pytest.mark.parametrize("text", OUTSIDE)
def test_names_just_outside_the_grammar(text: str) -> None:
    """Row 0.1 and HAZARDS.md "names": dots, escapes, NUL, case, full-width digits, NFC and NFD."""
    with pytest.raises(NameInvalidError) as caught:
        RepositoryName.parse(text)
    caught.value.message.encode()


@pytest.mark.parametrize("text", ["a/blobs", "a/manifests/b", "tags/list", "a/uploads", "referrers/a", "a__b/c--d/e.f"])
def test_words_of_the_protocol_are_names(text: str) -> None:
    """Row 0.1: components may be called as parts of the protocol's paths."""
    assert str(RepositoryName.parse(text)) == text


def test_length() -> None:
    """Row 0.1: 255 characters, of the full name: what is listed can be asked for."""
    assert str(RepositoryName.parse("a/" + "b" * 253)) == "a/" + "b" * 253
    assert len(str(RepositoryName.parse("b" * 247))) == 255
    for text in ("a/" + "b" * 254, "b" * 248, "b" * 256, "a/" * 5000 + "a"):
        with pytest.raises(NameInvalidError):
            RepositoryName.parse(text)


def test_no_name_takes_long() -> None:
    """HAZARDS.md: the expression has no slow input within its length."""
    begun = time.process_time()
    for text in ("a" * 250 + "!", "a-" * 125, "a_" * 120 + "!", "a" + "-" * 250, "a/" * 127):
        with pytest.raises(NameInvalidError):
            RepositoryName.parse(text)
    assert time.process_time() - begun < 0.5


@settings(deadline=None)
@given(st.from_regex(TAG, fullmatch=True))
def test_tags_of_the_grammar(text: str) -> None:
    """Row 0.2: a reference without a colon is a tag."""
    assert is_tag(text)
    assert check_tag(text) == parse_reference(text) == text


@settings(deadline=None)
@given(st.text(max_size=140))
def test_other_text_is_no_tag(text: str) -> None:
    """Row 0.2: exactly the grammar; whatever else a reference is, it is a digest or an error of ours."""
    assert is_tag(text) == (TAG.fullmatch(text) is not None)
    try:
        found = parse_reference(text)
    except RegistryError:
        return
    assert str(found) == text


@pytest.mark.parametrize(
    "text", ["", ".a", "-a", "a/b", "a" * 129, "a\n", "a\0", "..", "%2e", "\uff11", "v\u00e9", "a b", "a'--"]
)
def test_tags_just_outside_the_grammar(text: str) -> None:
    """Row 0.2 and HAZARDS.md "names"."""
    assert not is_tag(text)
    with pytest.raises(ReferenceInvalidError):
        parse_reference(text)


def test_references_with_a_colon_are_digests() -> None:
    """Row 0.2: a reference is a tag or a digest."""
    digest = Digest.of(b"x", "sha512")
    assert parse_reference(str(digest)) == digest
    for text in ("SHA256:" + "a" * 64, "sha256:..%2f", "a:b"):
        with pytest.raises(DigestInvalidError):
            parse_reference(text)
