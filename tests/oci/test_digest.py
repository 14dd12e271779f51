"""Digests: PROTOCOL.md row 0.3, HAZARDS.md "names"."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distsql.errors import DigestInvalidError
from distsql.oci.digest import SHA256, SHA512, Digest, new_hash

HEX = "0123456789abcdef"
ALGORITHMS = st.sampled_from([(SHA256, 64), (SHA512, 128)])


@st.composite
def wire_digests(draw: st.DrawFn) -> str:
    algorithm, length = draw(ALGORITHMS)
    return f"{algorithm}:{draw(st.text(HEX, min_size=length, max_size=length))}"


@settings(deadline=None)
@given(wire_digests())
def test_what_is_parsed_is_written_again(text: str) -> None:
    """Row 0.3: sha256 with 64 and sha512 with 128 lower-case hex digits."""
    assert str(Digest.parse(text)) == text


@settings(deadline=None)
@given(st.binary(), ALGORITHMS)
def test_a_digest_verifies_its_content_only(content: bytes, algorithm: tuple[str, int]) -> None:
    """Row 0.3: both algorithms name content."""
    digest = Digest.of(content, algorithm[0])
    assert Digest.parse(str(digest)) == digest
    assert digest.encoded == hashlib.new(algorithm[0], content).hexdigest()
    assert digest.verifies(content)
    assert not digest.verifies(content + b"x")


@settings(deadline=None)
@given(st.text(max_size=200))
@example("sha256:" + "a" * 63)
@example("sha512:" + "a" * 64)
def test_other_text_is_refused_and_nothing_else_happens(text: str) -> None:
    """HAZARDS.md: random text raises a registry error or is a digest that reads the same."""
    try:
        digest = Digest.parse(text)
    except DigestInvalidError:
        return
    assert str(digest) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        "sha256:..%2f" + "a" * 59,
        "sha256:../" + "a" * 61,
        "SHA256:" + "a" * 64,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + " " + "a" * 63,
        "sha256:" + "aa " * 21 + "a",
        "sha256:" + "aa" * 32 + "  ",
        "sha256:" + "a" * 63 + "\0",
        "sha256:" + "%00" + "a" * 61,
        "sha256:" + "\uff11" * 64,
        "sha256:" + "\u0661" * 64,
        "sha512:" + "a" * 64,
        "sha384:" + "a" * 96,
        "md5:" + "a" * 32,
        "sha256+b64:" + "a" * 64,
        " sha256:" + "a" * 64,
        "sha256:" + "a" * 10_000,
    ],
)
def test_malformed(text: str) -> None:
    """Row 0.3 and HAZARDS.md "names": just outside the grammar."""
    with pytest.raises(DigestInvalidError) as caught:
        Digest.parse(text)
    assert len(caught.value.message) < 1000


def test_order_is_that_of_the_packed_form() -> None:
    a, b = Digest.of(b"a"), Digest.of(b"b")
    assert (a < b) == (a.packed < b.packed)
    assert len({a, Digest.of(b"a"), b}) == 2


def test_running_hashes() -> None:
    """Row 0.3: a stream is hashed as its whole is; other algorithms are refused."""
    hasher = new_hash(SHA512)
    hasher.update(b"ab")
    hasher.update(b"c")
    assert Digest.from_hash(hasher) == Digest.of(b"abc", SHA512)
    with pytest.raises(DigestInvalidError):
        new_hash("md5")
