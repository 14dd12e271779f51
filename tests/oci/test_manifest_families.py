"""Random manifests of every family: what is right is read as it is meant, what is broken is refused and nothing else.

Issue 4, item 6. `test_manifest_parse.py` has what holds for any payload; here each manifest is good until one thing in
it is broken.
"""

from __future__ import annotations

import copy
import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distsql.errors import ManifestInvalidError
from distsql.oci.digest import Digest
from distsql.oci.manifest import (
    DOCKER_IMAGE,
    DOCKER_LIST,
    DOCKER_SCHEMA1,
    NON_DISTRIBUTABLE,
    OCI_IMAGE,
    OCI_INDEX,
    ParsedManifest,
    Role,
    parse,
)
from distsql.oci.manifest.document import MAX_DEPTH, read_document

Json = dict[str, Any]

TEXT: Final = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
MEDIA_TYPES: Final = st.sampled_from(
    ["a/b", OCI_IMAGE, OCI_INDEX, "application/vnd.x+json", *sorted(NON_DISTRIBUTABLE)]
)
DIGESTS: Final = st.builds(Digest.of, st.binary(max_size=3), st.sampled_from(["sha256", "sha256", "sha512"])).map(str)
ANYTHING: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
PLATFORMS: Final = st.fixed_dictionaries(
    {"os": st.sampled_from(["linux", "windows"]), "architecture": st.sampled_from(["amd64", "arm64"])},
    optional={"variant": st.just("v8"), "os.version": TEXT, "os.features": st.lists(TEXT, max_size=1)},
)
DESCRIPTORS: Final = st.fixed_dictionaries(
    {"mediaType": MEDIA_TYPES, "digest": DIGESTS, "size": st.integers(0, 2**63 - 1)},
    optional={
        "annotations": st.none() | st.dictionaries(TEXT, TEXT, max_size=2),
        "artifactType": st.none() | st.just("c/d"),
        "platform": st.none() | PLATFORMS,
        "urls": st.none() | st.lists(TEXT, max_size=2),
        "data": st.just("e30="),
        "x-more": ANYTHING,
    },
)
LISTS: Final = st.lists(DESCRIPTORS, max_size=4)
OPTIONAL: Final = {
    "subject": st.none() | DESCRIPTORS,
    "annotations": st.none() | st.dictionaries(TEXT, TEXT, max_size=2),
    "artifactType": st.none() | st.just("c/d"),
    "x-more": ANYTHING,
}


def images(media_type: str) -> st.SearchStrategy[Json]:
    said = {"schemaVersion": st.just(2), "mediaType": st.just(media_type), "config": DESCRIPTORS}
    return st.fixed_dictionaries(said, optional={**OPTIONAL, "layers": LISTS | st.none()})


def indexes(media_type: str) -> st.SearchStrategy[Json]:
    said = {"schemaVersion": st.just(2), "mediaType": st.just(media_type), "manifests": LISTS | st.none()}
    return st.fixed_dictionaries(said, optional=OPTIONAL)


LAYERS_OF_SCHEMA1: Final = st.lists(st.fixed_dictionaries({"blobSum": DIGESTS}), max_size=3)
FAMILIES: Final[dict[str, st.SearchStrategy[Json]]] = {
    OCI_IMAGE: images(OCI_IMAGE),
    DOCKER_IMAGE: images(DOCKER_IMAGE),
    OCI_INDEX: indexes(OCI_INDEX),
    DOCKER_LIST: indexes(DOCKER_LIST),
    DOCKER_SCHEMA1: st.fixed_dictionaries(
        {"schemaVersion": st.just(1), "name": st.just("acme/web"), "tag": st.just("v1"), "fsLayers": LAYERS_OF_SCHEMA1},
        optional={"architecture": TEXT, "x-more": ANYTHING},
    ),
    "application/vnd.x+json": st.fixed_dictionaries(
        {}, optional={**OPTIONAL, "config": DESCRIPTORS, "layers": LISTS, "manifests": LISTS, "blobs": LISTS}
    ),
}
MANIFESTS: Final = st.sampled_from(sorted(FAMILIES)).flatmap(lambda kind: st.tuples(st.just(kind), FAMILIES[kind]))


@st.composite
def written(draw: st.DrawFn, document: Json) -> bytes:
    """The document as programs write it: its fields in any order, escaped or not, with any white space."""
    names = draw(st.permutations(sorted(document)))
    shuffled = {name: document[name] for name in names}
    indent, ascii_only = draw(st.sampled_from([None, 0, 3])), draw(st.booleans())
    return json.dumps(shuffled, indent=indent, ensure_ascii=ascii_only).encode() + draw(st.sampled_from([b"", b"\n "]))


def expected_references(document: Json) -> list[tuple[str, str, int]]:
    """What a manifest refers to, by the specification: the subject is no part of it."""
    if document.get("schemaVersion") == 1:
        return [("layer", each["blobSum"], 0) for each in document["fsLayers"]]
    config = document.get("config")
    found = [("config", config)] if config else []
    for name, role in (("layers", "layer"), ("blobs", "blob"), ("manifests", "manifest")):
        found += [(role, each) for each in document.get(name) or []]
    return [(role, each["digest"], each["size"]) for role, each in found]


def check_extras(manifest: ParsedManifest, document: Json) -> None:
    subject = document.get("subject")
    assert (manifest.subject is None) == (subject is None)
    if manifest.subject is not None and subject:
        assert str(manifest.subject.digest) == subject["digest"]
    assert manifest.annotations == (document.get("annotations") or {})


@settings(max_examples=150, deadline=None)
@given(MANIFESTS, st.data())
def test_a_manifest_of_any_family_is_read_as_it_is_meant(manifest: tuple[str, Json], data: st.DataObject) -> None:
    """0.4, 3.4 the same bytes, and every reference in its place, whatever else there is in it."""
    media_type, document = manifest
    payload = data.draw(written(document))
    read = parse(payload, media_type)
    assert read.payload is payload
    assert read.media_type == media_type
    assert read.digest == Digest.of(payload)
    assert [
        (part.role.value, str(part.descriptor.digest), part.descriptor.length) for part in read.parts
    ] == expected_references(document)
    for part in read.parts:
        absent_is_fine = part.role is Role.LAYER and part.descriptor.media_type in NON_DISTRIBUTABLE
        assert part.required != absent_is_fine
    if media_type != DOCKER_SCHEMA1:
        check_extras(read, document)


BROKEN_DESCRIPTORS: Final = st.sampled_from(
    [
        *({"mediaType": None}, {"mediaType": ""}, {"mediaType": 1}, {"mediaType": "a" * 256}, {"mediaType": ["a/b"]}),
        *({"size": None}, {"size": -1}, {"size": 2**63}, {"size": "1"}, {"size": True}, {"size": 1.0}, {"size": [1]}),
        *({"digest": None}, {"digest": 7}, {"digest": "sha256:x"}, {"digest": "sha256:" + "A" * 64}, {"digest": {}}),
        *({"digest": "sha256:" + " " + "0" * 63}, {"digest": "sha256:" + "\uff10" * 64}, {"digest": "md5:" + "0" * 32}),
        *({"digest": "0" * 64 + "sha256:"}, {"annotations": {"a": 1}}, {"annotations": []}, {"platform": "linux"}),
        *({"platform": {"os": 1}}, {"platform": {"os": [], "architecture": "x"}}, {"urls": "x"}, {"urls": [1]}),
        *({"artifactType": 1}, {"artifactType": "a" * 256}),
    ]
)
STRICT: Final = [OCI_IMAGE, DOCKER_IMAGE, OCI_INDEX, DOCKER_LIST]


@pytest.mark.parametrize("media_type", STRICT)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), broken=BROKEN_DESCRIPTORS, others=st.integers(0, 3))
def test_one_broken_descriptor_breaks_its_manifest(
    media_type: str, data: st.DataObject, broken: Json, others: int
) -> None:
    """3.1, 6.1 MANIFEST_INVALID that tells where, wherever it stands among good ones; never another error."""
    document = copy.deepcopy(data.draw(FAMILIES[media_type]))
    field = "layers" if media_type in {OCI_IMAGE, DOCKER_IMAGE} else "manifests"
    good = data.draw(st.lists(DESCRIPTORS, min_size=others, max_size=others))
    at = data.draw(st.integers(0, others))
    document[field] = [*good[:at], {**data.draw(DESCRIPTORS), **broken}, *good[at:]]
    with pytest.raises(ManifestInvalidError) as caught:
        parse(data.draw(written(document)), media_type)
    assert isinstance(caught.value.detail, dict)
    assert caught.value.detail["at"].startswith(f"{field}[{at}]")


BREAKS: Final = st.sampled_from(
    [
        *(
            {"schemaVersion": 1},
            {"schemaVersion": "2"},
            {"schemaVersion": None},
            {"schemaVersion": 2.0},
            {"mediaType": 2},
        ),
        *({"subject": "x"}, {"subject": {}}, {"annotations": {"a": None}}, {"annotations": "x"}, {"artifactType": []}),
        *({"Config": {}}, {"MANIFESTS": []}, {"mediaType": "z/z"}, {"layers": {}, "manifests": {}}),
        {"config": {"mediaType": "a/b", "digest": "sha256:" + "0" * 64, "size": 0}, "manifests": []},
    ]
)


@pytest.mark.parametrize("media_type", STRICT)
@settings(max_examples=40, deadline=None)
@given(data=st.data(), broken=BREAKS)
def test_one_broken_field_breaks_its_manifest(media_type: str, data: st.DataObject, broken: Json) -> None:
    """3.3, 6.1 MANIFEST_INVALID for a field of the wrong kind, and for one of another kind of manifest."""
    payload = data.draw(written({**data.draw(FAMILIES[media_type]), **broken}))
    with pytest.raises(ManifestInvalidError):
        parse(payload, media_type)


@settings(max_examples=100, deadline=None)
@given(MANIFESTS, st.data())
def test_damaged_bytes_are_refused_or_are_a_manifest(manifest: tuple[str, Json], data: st.DataObject) -> None:
    """0.4, 6.1 cut, doubled or overwritten somewhere: MANIFEST_INVALID, or what a plain JSON reader sees as well."""
    media_type, document = manifest
    payload = bytearray(data.draw(written(document)))
    start = data.draw(st.integers(0, len(payload)))
    stop = data.draw(st.integers(start, min(start + 40, len(payload))))
    payload[start:stop] = data.draw(
        st.sampled_from([b"", bytes(payload[start:stop]) * 2, b'"', b"\\", b"\xff", b"{", b","])
    )
    try:
        parse(bytes(payload), media_type)
    except ManifestInvalidError:
        return
    assert read_document(bytes(payload)) == json.loads(payload)


# -- names that stand twice, and numbers: found without a look at each object -----------------------------------------

PIECES: Final = st.lists(
    st.sampled_from(
        [
            *(
                '{"a":1}',
                '{"a":"b"}',
                '{"a":1,"a":1}',
                '{"a":"b","a":"b"}',
                '{"a":"b","\\u0061":"b"}',
                '"\\u0022"',
                '"a:b"',
            ),
            *('{"a":{"a":[{"b":1,"b":2}]}}', '"x"', '"\\""', '"\\\\"', "[[[]]]", "1.5", "99999999999999999999", "1e5"),
            *("100000000000000000000", "-100000000000000000000", "[" * (MAX_DEPTH - 2) + "]" * (MAX_DEPTH - 2)),
            *("[" * MAX_DEPTH + "]" * MAX_DEPTH, '{"\\ud800":1}', '{":":":"}', '{"":""}', "true", "null", '"\\u0000"'),
        ]
    ),
    max_size=5,
)


def strict_pairs(pairs: list[tuple[str, Any]]) -> Json:
    assert len(dict(pairs)) == len(pairs), "a name stands twice"
    return dict(pairs)


def is_plainly_good(text: str) -> bool:
    """The same rules, each by itself and slowly."""
    try:
        found = json.loads(text, object_pairs_hook=strict_pairs)
    except AssertionError:
        return False
    waiting: list[tuple[Any, int]] = [(found, 1)]
    while waiting:
        value, depth = waiting.pop()
        match value:
            case dict() | list():
                inner = [*value, *value.values()] if isinstance(value, dict) else value
                waiting += [(each, depth + 1) for each in inner]
                if depth > MAX_DEPTH:
                    return False
            case str() if "\0" in value or any(0xD800 <= ord(each) < 0xE000 for each in value):
                return False
            case int() if abs(value) >= 10**20:
                return False
    return True


@settings(max_examples=300, deadline=None)
@given(PIECES, st.booleans())
def test_what_a_quick_look_takes_is_what_a_slow_one_takes(pieces: list[str], spaced: bool) -> None:
    """0.4, HAZARDS "Parsing": names that stand twice, depth, numbers and text, in any company."""
    text = '{"list":[' + (" , " if spaced else ",").join(pieces) + "]}"
    try:
        document = read_document(text.encode())
    except ManifestInvalidError:
        assert not is_plainly_good(text)
        return
    assert is_plainly_good(text)
    assert document == json.loads(text)
