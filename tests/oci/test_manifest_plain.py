"""The quick reader of indexes takes nothing that the strict one refuses, and sees nothing else in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distsql.errors import ManifestInvalidError
from distsql.oci.digest import Digest
from distsql.oci.manifest import OCI_INDEX, parse
from distsql.oci.manifest.descriptors import MAX_REFERENCES, Descriptors, read_descriptors
from distsql.oci.manifest.document import Document, read_document
from distsql.oci.manifest.plain import read_plain_index

# An object as it is written: its names and values in their order, some of them perhaps twice.
Pairs = list[tuple[str, Any]]


def encode(value: object, dump: Callable[[object], str] = json.dumps) -> str:
    match value:
        case list() if value and isinstance(value[0], tuple):
            return "{" + ", ".join(f"{dump(name)}: {encode(inner, dump)}" for name, inner in value) + "}"
        case list():
            return "[" + ",".join(encode(inner, dump) for inner in value) + "]"
    return dump(value)


def escaped_as_go_does(value: object) -> str:
    """Go's encoder escapes these characters, for HTML."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def entry(number: int = 0, **more: Any) -> Pairs:
    fields = {"mediaType": "a/b", "digest": str(Digest.of(b"%d" % number)), "size": number, **more}
    return list(fields.items())


def index(*entries: Any, **more: Any) -> Pairs:
    return [("schemaVersion", 2), ("manifests", list(entries)), *more.items()]


def read_both(payload: bytes) -> tuple[Document | None, Document | None]:
    """What the quick reader sees, and the strict one, with its descriptors read as well; None when it refuses."""
    try:
        strict = read_document(payload)
        if strict.get("manifests") is not None:
            strict["manifests"] = list(read_descriptors(strict, "manifests"))
    except ManifestInvalidError:
        return read_plain_index(payload), None
    return read_plain_index(payload), strict


EVERYTHING: Final = [
    entry(1, platform=[("os", "linux"), ("architecture", "arm"), ("variant", "v7"), ("os.version", "1.2")]),
    entry(1, platform=[("os", "windows"), ("os.features", ["win32k", ""]), ("features", [])]),
    entry(2, platform=[("os", "linux"), ("architecture", "amd64")], annotations=[("a", "b"), ("<&>", ' "é" \u2028\t')]),
    entry(3, artifactType="x/y", urls=["https://example.com/?a=1&b=2", ""], data="e30="),
    *(entry(number, platform=[("os", "linux"), ("architecture", "amd64")]) for number in range(3)),
    entry(4, artifactType="", annotations={}, urls=[], platform={}),
    entry(2**63 - 1, digest=str(Digest.of(b"x", "sha512"))),
]


@pytest.mark.parametrize("dump", [json.dumps, escaped_as_go_does])
def test_what_the_image_specification_names_is_read_quickly(dump: Callable[[object], str]) -> None:
    """Row 3.4: every field that an index and its entries may have, in this order or another."""
    everything = index(
        *EVERYTHING, mediaType=OCI_INDEX, artifactType="x/y", subject=entry(9, data=""), annotations=[("k", "v & w")]
    )
    for document in (everything, everything[::-1], index()):
        quick, strict = read_both(encode(document, dump).encode())
        assert quick is not None
        assert isinstance(quick["manifests"], Descriptors)
        assert quick == strict


OPTIONAL: Final = {
    "platform": [("os", "linux"), ("architecture", "amd64")],
    "annotations": [("a", "b"), ('"', "\\")],
    "urls": ["x"],
    "artifactType": "x/y",
    "data": "",
}
# What may be wrong, or only unusual: in place of a value, or beside it.
STRANGE: Final[st.SearchStrategy[Any]] = st.sampled_from(
    [
        *(
            None,
            True,
            False,
            0,
            -1,
            1.0,
            2**63,
            10**19,
            10**30,
            "",
            ":",
            '"',
            "\0",
            "\ud800",
            "\ud83d\ude00",
            "x" * 256,
        ),
        *([], {}, [("a", 1)], [("a", "b"), ("a", "b")], [("a", None)], [("x" * 513, "")], [1], [["x"]], ["x", "\\"]),
        *([("os", "linux"), ("os", "linux")], [("os", None)], [("os.features", ["a"])], [("variant", "v" * 256)]),
        *("sha256:" + "A" * 64, "sha256:" + " " + "0" * 63, "aasha256:" + "0" * 62, "01sha256:" + "0" * 62),
        *("sha256:" + "\uff10" * 64, str(Digest.of(b"x")), str(Digest.of(b"x", "sha512")), "md5:0"),
    ]
)
NAMES: Final = st.sampled_from(["mediaType", "digest", "size", *OPTIONAL, "Size", "", "manifests", "a", "\0"])


@st.composite
def objects(draw: st.DrawFn, fields: Pairs) -> Pairs:
    """The object, in any order, perhaps with something strange in it."""
    pairs = draw(st.permutations(fields))
    at = draw(st.integers(0, len(pairs) - 1))
    match draw(st.integers(0, 9)):
        case 0:
            pairs[at] = (pairs[at][0], draw(STRANGE))
        case 1:
            pairs.insert(at, (draw(NAMES), draw(STRANGE)))
        case 2:
            pairs.append(pairs[at])
        case 3:
            del pairs[at]
    return pairs


@st.composite
def indexes(draw: st.DrawFn) -> bytes:
    wanted = draw(st.lists(st.sets(st.sampled_from(sorted(OPTIONAL))), max_size=4))
    entries = [
        draw(objects(entry(number, **{name: OPTIONAL[name] for name in sorted(names)})))
        for number, names in enumerate(wanted)
    ]
    more = {"mediaType": OCI_INDEX, "subject": draw(objects(entry(7))), "annotations": OPTIONAL["annotations"]}
    document = draw(
        objects(index(*entries, **{name: more[name] for name in draw(st.sets(st.sampled_from(sorted(more))))}))
    )
    dumps: list[Callable[[object], str]] = [json.dumps, escaped_as_go_does]
    text = encode(document, draw(st.sampled_from(dumps)))
    return text.encode("utf-8", "surrogatepass")


@settings(max_examples=2 * settings().max_examples, deadline=None)
@given(indexes())
def test_the_quick_reader_sees_what_the_strict_one_sees(payload: bytes) -> None:
    """0.4, HAZARDS "Parsing": no two readers of one payload; what one refuses the other never takes."""
    quick, strict = read_both(payload)
    assert quick is None or quick == strict


DIGEST: Final = str(Digest.of(b"0"))
ENTRY: Final = f'{{"mediaType":"a/b","digest":"{DIGEST}","size":0}}'


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (ENTRY.replace('"size":0', '"size":0,"size":0'), "'size' stands twice"),
        (ENTRY.replace('"size":0', '"size":0,"\\u0073ize":0'), "'size' stands twice"),
        (ENTRY.replace("a/b", "a/b\\ud800"), "half of a surrogate pair"),
        (ENTRY.replace("a/b", "a/b\\u0000"), "NUL"),
        (ENTRY.replace("a/b", "a/b\n"), "not JSON"),
        (ENTRY.replace('"size":0', '"size":00'), "not JSON"),
        (ENTRY.replace('"size":0', '"size":NaN'), "NaN"),
        (ENTRY.replace('"size":0', f'"size":{"9" * 21}'), "20 digits"),
        (ENTRY.replace('"size":0', '"size":9e18'), "size: must be a whole number"),
        (ENTRY.replace('"size":0', '"size":0,"annotations":{"a":"b","a":"b"}'), "'a' stands twice"),
        (ENTRY.replace('"size":0', '"size":0,"platform":{"os":"x","os":"x"}'), "'os' stands twice"),
        (ENTRY + ",", "not JSON"),
        (ENTRY + "]}{", "not JSON"),
        (ENTRY + '],"manifests":[', "'manifests' stands twice"),
        (ENTRY + '],"x":' + "[" * 64 + "]" * 63, "nested deeper"),
    ],
    ids=str,
)
def test_what_is_refused_is_refused_as_ever(entries: str, said: str) -> None:
    """HAZARDS.md, CVE-2017-11468: among thousands of good entries too, with the same words."""
    for payload in (f'{{"schemaVersion":2,"manifests":[{entries}]}}', f'{{"manifests":[{entries}],"schemaVersion":2}}'):
        assert read_plain_index(payload.encode()) is None
        with pytest.raises(ManifestInvalidError, match=said):
            parse(payload.encode(), OCI_INDEX)


def test_too_many_entries_are_not_taken() -> None:
    """HAZARDS.md "a million descriptors": `test_manifest_index` has what is said of them."""
    head, entries = '{"schemaVersion":2,"manifests":[', ",".join([ENTRY] * MAX_REFERENCES)
    assert read_plain_index(f"{head}{entries}]}}".encode()) is not None
    assert read_plain_index(f"{head}{entries},{ENTRY}]}}".encode()) is None


def test_invalid_utf_8_is_not_taken() -> None:
    for wrong in (b"\xff", b"\xed\xa0\x80", b"\xc0\x80"):
        payload = encode(index(entry(annotations={"a": "?"}))).encode()
        assert read_plain_index(payload) is not None
        assert read_plain_index(payload.replace(b"?", wrong)) is None
    assert read_plain_index(b"\xef\xbb\xbf" + payload) is None
