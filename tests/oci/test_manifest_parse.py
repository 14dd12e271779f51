"""Which format a manifest is of, its digest, and what holds for all of them (PROTOCOL.md rows 0.3, 0.4, 3.2, 3.3)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distsql.contract import Manifest
from distsql.errors import DigestInvalidError, ManifestInvalidError, RegistryError
from distsql.oci.descriptor import Descriptor, Platform
from distsql.oci.digest import Digest
from distsql.oci.manifest import (
    DOCKER_IMAGE,
    DOCKER_LIST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    OCI_IMAGE,
    OCI_INDEX,
    parse,
)

CONFIG = {"mediaType": "c/d", "digest": str(Digest.of(b"c")), "size": 1}
IMAGE: dict[str, Any] = {"schemaVersion": 2, "config": CONFIG, "layers": []}
INDEX: dict[str, Any] = {"schemaVersion": 2, "manifests": []}
TYPES = [OCI_IMAGE, OCI_INDEX, DOCKER_IMAGE, DOCKER_LIST, DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED, "a/b", None]


def encode(document: object) -> bytes:
    return json.dumps(document).encode()


def test_it_is_the_contracts_manifest() -> None:
    manifest: Manifest = parse(encode(IMAGE))
    assert manifest.digest == Digest.of(manifest.payload)


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        (IMAGE, OCI_IMAGE),
        ({**IMAGE, "mediaType": DOCKER_IMAGE}, DOCKER_IMAGE),
        ({**IMAGE, "mediaType": "a/b"}, "a/b"),
        ({**IMAGE, "manifests": None}, OCI_IMAGE),
        (INDEX, OCI_INDEX),
        ({**INDEX, "manifests": None}, OCI_INDEX),
        ({**INDEX, "config": None, "layers": None}, OCI_INDEX),
        ({**INDEX, "mediaType": DOCKER_LIST}, DOCKER_LIST),
        ({"schemaVersion": 1}, DOCKER_SCHEMA1),
    ],
)
@pytest.mark.parametrize("content_type", [None, "", " ", "; charset=utf-8"])
def test_without_a_content_type_the_body_tells(document: object, media_type: str, content_type: str | None) -> None:
    """Row 3.3: the body's mediaType, else its shape."""
    assert parse(encode(document), content_type).media_type == media_type


@pytest.mark.parametrize("document", [{}, {"schemaVersion": 2}, {"blobs": []}, {"mediaType": ""}, {"mediaType": None}])
def test_nothing_tells(document: object) -> None:
    with pytest.raises(ManifestInvalidError, match="send a Content-Type"):
        parse(encode(document))


@pytest.mark.parametrize("parameters", ["", ";charset=utf-8", " ; charset=UTF-8; q=1", "\t"])
def test_parameters_are_ignored(parameters: str) -> None:
    """Row 3.3: parameters of the Content-Type; the media type is kept as pushed, without them (row 0.5)."""
    document = {**IMAGE, "mediaType": OCI_IMAGE}
    assert parse(encode(document), OCI_IMAGE + parameters).media_type == OCI_IMAGE


@pytest.mark.parametrize("header", TYPES)
@pytest.mark.parametrize("body", TYPES)
def test_header_and_body_agree(header: str | None, body: str | None) -> None:
    """Row 3.3: mediaType inside the body, where present, equals the header."""
    document = {"schemaVersion": 7, "mediaType": body}
    try:
        parse(encode(document), header)
    except RegistryError as error:
        refused = "must be equal" in error.message
    else:
        refused = False
    assert refused == bool(header and body and header != body)


@pytest.mark.parametrize(
    "media_type",
    [
        "a",
        "a/",
        "/b",
        "a/b/c",
        "a b/c",
        "a/b\r\nX-Evil: 1",
        "a/b,c/d",
        "\u212a/b",
        "a/\u0661",
        "a/" + "b" * 254,
        "a/b\n",
    ],
)
def test_media_types_that_no_header_could_carry(media_type: str) -> None:
    """HAZARDS.md, CVE-2021-41190: the media type is served for ever, so it is checked once."""
    with pytest.raises(ManifestInvalidError, match="no media type"):
        parse(encode({"mediaType": media_type}))
    with pytest.raises(ManifestInvalidError, match="no media type"):
        parse(encode({}), media_type)


@pytest.mark.parametrize("value", [0, 5, True, False, [], ["a/b"], {"a": "b"}, 1.5])
@pytest.mark.parametrize("content_type", [OCI_IMAGE, None])
def test_a_media_type_is_a_string(value: object, content_type: str | None) -> None:
    with pytest.raises(ManifestInvalidError, match="mediaType"):
        parse(encode({**IMAGE, "mediaType": value}), content_type)


def test_media_types_have_no_case() -> None:
    """CVE-2021-41190 by another spelling: the checks of an image hold for it, and it is served as pushed."""
    shouted = OCI_IMAGE.upper()
    assert parse(encode(IMAGE), shouted).media_type == shouted
    with pytest.raises(ManifestInvalidError):
        parse(encode({**IMAGE, "manifests": []}), shouted)


@pytest.mark.parametrize("media_type", [OCI_IMAGE, OCI_INDEX, DOCKER_IMAGE, DOCKER_LIST, None])
@pytest.mark.parametrize("other", [{"config": CONFIG}, {"layers": []}, {"config": CONFIG, "layers": []}])
def test_both_image_and_index_is_neither(media_type: str | None, other: dict[str, Any]) -> None:
    """Row 3.3: a body that is both is refused (CVE-2021-41190)."""
    with pytest.raises(ManifestInvalidError):
        parse(encode({"schemaVersion": 2, "manifests": [], **other}), media_type)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_digest_that_was_given_is_the_manifests(algorithm: str) -> None:
    """Rows 0.3, 0.7 and 3.1: a sha512 push stays sha512."""
    payload = encode(IMAGE)
    digest = Digest.of(payload, algorithm)
    assert parse(payload, OCI_IMAGE, digest).digest == digest
    assert parse(payload).digest == Digest.of(payload)


@pytest.mark.parametrize(
    "payload", [encode(IMAGE), encode(IMAGE) + b" ", b"damaged", b'{"signatures":1,"mediaType":"a/b"}']
)
def test_a_digest_that_does_not_match(payload: bytes) -> None:
    """Row 3.2: DIGEST_INVALID; and damaged content is damaged, whether or not it is JSON."""
    with pytest.raises(DigestInvalidError) as caught:
        parse(payload, None, Digest.of(b"other"))
    assert isinstance(caught.value.detail, dict)


def test_equality() -> None:
    """The contract: equal payload and media type is an equal manifest."""
    payload = encode(IMAGE)
    one = parse(payload, OCI_IMAGE)
    same = parse(payload, None, Digest.of(payload, "sha512"))
    assert one == same
    assert hash(one) == hash(same)
    assert one != parse(payload, DOCKER_IMAGE)
    assert one != parse(payload + b"\n", OCI_IMAGE)
    assert len(repr(one)) < 1000
    with pytest.raises(AttributeError):
        one.media_type = "a/b"  # type: ignore[misc]


def test_references_are_values() -> None:
    manifest = parse(encode(IMAGE))
    assert len({*manifest.parts, *parse(encode(IMAGE)).parts}) == 1


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
DESCRIPTORS = st.builds(
    Descriptor,
    TEXT,
    st.integers(0, 2**63 - 1),
    st.builds(Digest.of, st.binary(max_size=4), st.sampled_from(["sha256", "sha512"])),
    artifact_type=st.none() | TEXT,
    platform=st.none() | st.builds(Platform, TEXT, TEXT, st.just("") | TEXT),
    annotations=st.dictionaries(TEXT, st.just("") | TEXT, max_size=3),
    urls=st.lists(TEXT, max_size=2).map(tuple),
)
ANNOTATIONS = st.dictionaries(TEXT, TEXT, max_size=4)


@settings(max_examples=settings().max_examples // 2, deadline=None)
@given(DESCRIPTORS, st.lists(DESCRIPTORS, max_size=4), st.none() | DESCRIPTORS, ANNOTATIONS, st.booleans())
def test_images_survive(
    config: Descriptor,
    layers: Sequence[Descriptor],
    subject: Descriptor | None,
    annotations: dict[str, str],
    plain: bool,
) -> None:
    """Row 0.4: the payload stays as it is, and every reference comes back."""
    document = {
        **IMAGE,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
        "subject": subject and subject.to_json(),
        "annotations": annotations,
    }
    payload = json.dumps(document, ensure_ascii=plain).encode()
    manifest = parse(payload, OCI_IMAGE)
    assert list(manifest.references()) == [config, *layers]
    assert (manifest.subject, manifest.annotations) == (subject, annotations)
    assert manifest.payload is payload


@settings(max_examples=settings().max_examples // 2, deadline=None)
@given(st.lists(DESCRIPTORS, max_size=4), ANNOTATIONS)
def test_indexes_survive(children: Sequence[Descriptor], annotations: dict[str, str]) -> None:
    """Row 0.4, for indexes."""
    document = {**INDEX, "manifests": [child.to_json() for child in children], "annotations": annotations}
    manifest = parse(encode(document))
    assert list(manifest.references()) == list(children)
    assert manifest.annotations == annotations


FIELDS = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "blobs",
    "subject",
    "annotations",
    "artifactType",
    "fsLayers",
    "history",
    "name",
    "tag",
    "signatures",
    "digest",
    "size",
    "urls",
    "platform",
    "os",
    "protected",
    "signature",
    "blobSum",
]
NAMES = st.sampled_from(FIELDS)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([*(name for name in TYPES if name), str(Digest.of(b"x")), "'; drop table blobs; --", "\\", "e30"])
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(NAMES, JUNK), st.sampled_from(TYPES), st.none() | st.just(Digest.of(b"x")))
def test_junk_raises_nothing_but_registry_errors(
    document: object, media_type: str | None, digest: Digest | None
) -> None:
    """HAZARDS.md "SQL" and "Parsing": no input is a 500."""
    try:
        manifest = parse(encode(document), media_type, digest)
    except RegistryError:
        return
    assert manifest.media_type
    assert manifest.digest.verifies(manifest.canonical)


@settings(deadline=None)
@given(st.binary(max_size=200), st.none() | st.text(max_size=30))
def test_random_bytes_raise_nothing_but_registry_errors(payload: bytes, media_type: str | None) -> None:
    """HAZARDS.md: random payloads and Content-Types."""
    try:
        parse(payload, media_type)
    except RegistryError:
        return
