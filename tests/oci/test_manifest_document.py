"""Strict, bounded JSON: HAZARDS.md "Parsing and denial of service", first row."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distsql.errors import ManifestInvalidError
from distsql.oci.manifest.document import MAX_DEPTH, malformed, read_document

MIB = 2**20


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "not JSON"),
        (b"   ", "not JSON"),
        (b"null", "not a null"),
        (b"[]", "not a list"),
        (b'"a"', "not a string"),
        (b"true", "not a boolean"),
        (b"1", "not a number"),
        (b"1.5", "not a number"),
        (b"{", "line 1, column 2"),
        (b"{}{}", "Extra data"),
        (b"{} x", "Extra data"),
        (b"{}\0", "Extra data"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1,}', "not JSON"),
        (b'{"a": 01}', "not JSON"),
        (b'{"a": +1}', "not JSON"),
        (b'{"a": "\n"}', "not JSON"),
        (b'{"a": "\0"}', "not JSON"),
        (b'{"a": "\\x"}', "not JSON"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "not UTF-8"),
        ("{}".encode("utf-16-le"), "not JSON"),
        (b'{"a": "\xff"}', "byte 7"),
        (b'{"a": "\xc0\x80"}', "not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a": 1, "b": 2, "a": 1}', "'a' stands twice"),
        (b'{"x": [{"a": 1, "\\u0061": 2}]}', "'a' stands twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": Infinity}', "Infinity"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e999}', "exponent"),
        (b'{"a": 1e-999}', "exponent"),
        (b'{"a": 9.9e308}', "exponent"),
        (b'{"a": 1E+99999999999999999999}', "digits"),
        (b'{"a": 123456789012345678901}', "20 digits"),
        (b'{"a": -123456789012345678901}', "20 digits"),
        (b'{"a": 0.12345678901234567890}', "20 digits"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'{"a": [[{"b": "x\\u0000"}]]}', "NUL"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": ["\\udc00\\ud800"]}', "surrogate"),
        (b'{"\\ud800": 1}', "surrogate"),
        (b'{"a": "\\ud83d x"}', "surrogate"),
    ],
)
def test_refused(payload: bytes, said: str) -> None:
    """HAZARDS.md, CVE-2017-11468: each is a clear refusal, and the message can be sent."""
    with pytest.raises(ManifestInvalidError, match=said) as caught:
        read_document(payload)
    assert len(caught.value.message.encode()) < 500


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"a": {"b": [1, -1, 0, 18446744073709551615, 1.5, 1e308, None, True]}},
        {"": ""},
        {"a": "é 😀 \U0010ffff \x7f", "ключ": ["ü"]},
        {"a": '\\u0000 \\" \\\\ud800', "b": '<&> "{[,'},
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_accepted(document: dict[str, object], ascii_only: bool) -> None:
    """What other programs write, escaped or not, is read as they mean it."""
    assert read_document(json.dumps(document, ensure_ascii=ascii_only).encode()) == document
    assert read_document(json.dumps(document, ensure_ascii=ascii_only, indent=3).encode() + b"\n") == document


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return b'{"a":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth(opening: bytes, closing: bytes) -> None:
    """HAZARDS.md "deep JSON": 64 levels, and no recursion error at any depth."""
    read_document(nested(MAX_DEPTH, opening, closing))
    for depth in (MAX_DEPTH + 1, 500, 990, 1100, 5000):
        with pytest.raises(ManifestInvalidError, match="nested deeper"):
            read_document(nested(depth, opening, closing))
    with pytest.raises(ManifestInvalidError):
        read_document(opening * 9000)


HOSTILE = {
    "brackets": b"[" * (4 * MIB),
    "objects": b'{"a":[' + b'{"a":1},' * (MIB // 2) + b"1]}",
    "a million descriptors": b'{"manifests":[' + b"{}," * 1_000_000 + b"{}]}",
    "names": b"{" + b",".join(b'"k%d":1' % i for i in range(400_000)) + b"}",
    "a huge integer": b'{"a":' + b"1" * (4 * MIB) + b"}",
    "a huge exponent": b'{"a":1e' + b"9" * (4 * MIB) + b"}",
    "a huge fraction": b'{"a":1.' + b"9" * (4 * MIB) + b"}",
    "an open string": b'{"a":"' + b"x" * (4 * MIB),
    "the same name at the end": b'{"x":"' + b"x" * (2 * MIB) + b'",' + b'"k":1,' * 20_000 + b'"k":2}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_payloads_are_cheap(name: str) -> None:
    """HAZARDS.md, CVE-2017-11468: memory in proportion to the payload, and no time to speak of."""
    begun = time.process_time()
    with pytest.raises(ManifestInvalidError):
        read_document(HOSTILE[name])
    assert time.process_time() - begun < 2
    tracemalloc.start()
    with pytest.raises(ManifestInvalidError):
        read_document(HOSTILE[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * MIB


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(-(2**63), 2**64 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=settings().max_examples // 2, deadline=None)
@given(st.dictionaries(TEXT, JSON, max_size=4), st.booleans())
def test_any_document_survives(document: dict[str, object], ascii_only: bool) -> None:
    assert read_document(json.dumps(document, ensure_ascii=ascii_only).encode()) == document


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text('{}[]",:\\u0dD8019eE+-. NaN', max_size=60).map(str.encode))
@example(b'{"a":"\\')
def test_random_bytes_are_a_document_or_refused(payload: bytes) -> None:
    """HAZARDS.md: no other error escapes, whatever comes."""
    try:
        document = read_document(payload)
    except ManifestInvalidError:
        return
    assert document == json.loads(payload)


def test_places_read_as_paths() -> None:
    error = malformed("is wrong", ("layers", 3, "size"))
    assert error.message == "layers[3].size: is wrong"
    assert error.detail == {"at": "layers[3].size"}
