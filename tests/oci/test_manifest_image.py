"""Images: OCI and Docker schema 2 (PROTOCOL.md rows 3.3 to 3.5, HAZARDS.md "Parsing")."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distsql.errors import ManifestInvalidError
from distsql.oci.digest import Digest
from distsql.oci.manifest import DOCKER_IMAGE, NON_DISTRIBUTABLE, OCI_IMAGE, OCI_INDEX, ParsedManifest, Role, parse

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def descriptor(content: str, media_type: str = LAYER, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content.encode())), "size": len(content), **more}


def image(**changes: Any) -> dict[str, Any]:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": descriptor("config", CONFIG),
        "layers": [descriptor("one"), descriptor("two")],
    }
    return {name: value for name, value in {**document, **changes}.items() if value != "absent"}


def read(document: dict[str, Any], media_type: str | None = OCI_IMAGE) -> ParsedManifest:
    return parse(json.dumps(document).encode(), media_type)


@pytest.mark.parametrize("media_type", [OCI_IMAGE, DOCKER_IMAGE])
def test_config_and_layers_in_their_order(media_type: str) -> None:
    manifest = read(image(mediaType=media_type), media_type)
    assert manifest.media_type == media_type
    assert [part.role for part in manifest.parts] == [Role.CONFIG, Role.LAYER, Role.LAYER]
    assert [reference.digest for reference in manifest.references()] == [
        Digest.of(content) for content in (b"config", b"one", b"two")
    ]
    assert [reference.length for reference in manifest.references()] == [6, 3, 3]
    assert manifest.config_media_type == CONFIG
    assert all(part.required for part in manifest.parts)


def test_artifact_type() -> None:
    """Row 4.2: the manifest's, else its config's media type."""
    assert read(image(artifactType="application/vnd.example")).artifact_type == "application/vnd.example"
    for empty in ("", None, "absent"):
        assert read(image(artifactType=empty)).artifact_type == CONFIG


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": []},
        {"layers": None},
        {"layers": "absent"},
        {"annotations": None, "subject": None},
        {"mediaType": "absent"},
        {"mediaType": ""},
        {"mediaType": None},
        {"newUnspecifiedField": {"a": [1, 2]}, "org.example.conformance": "hello"},
        {"config": descriptor("{}", "application/vnd.oci.empty.v1+json", data="e30=")},
        {"layers": [descriptor("x", data=None, newUnspecifiedField="aGVsbG8=")]},
        {"layers": [descriptor("x", "application/vnd.anything+yaml", annotations=None, urls=None, platform=None)]},
        {"layers": [descriptor("x")] * 3},
        {"artifactType": "whatever the client likes"},
    ],
)
def test_accepted(changes: dict[str, Any]) -> None:
    """Row 3.4: no layers, unknown fields, embedded data, any media type; null is Go's word for empty."""
    manifest = read(image(**changes))
    assert manifest.media_type == OCI_IMAGE
    assert manifest.subject is None


@pytest.mark.parametrize("media_type", sorted(NON_DISTRIBUTABLE))
def test_non_distributable_layers_may_be_absent(media_type: str) -> None:
    """Row 3.4, and GHSA-742w-89gc-8m9c: the urls are only kept."""
    manifest = read(image(layers=[descriptor("x", media_type, urls=["https://example.com/x"]), descriptor("y")]))
    assert [part.required for part in manifest.parts] == [True, False, True]
    assert manifest.references()[1].urls == ("https://example.com/x",)


def test_subject() -> None:
    """Row 3.5: the subject is apart from what the manifest needs."""
    manifest = read(image(subject=descriptor("subject", OCI_INDEX, annotations={"k": "v"})))
    assert manifest.subject is not None
    assert manifest.subject.digest == Digest.of(b"subject")
    assert manifest.subject.annotations == {"k": "v"}
    assert manifest.subject not in manifest.references()


def test_annotations() -> None:
    assert read(image(annotations={"a": "b", "c": ""})).annotations == {"a": "b", "c": ""}
    assert read(image()).annotations == {}


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"manifests": []}, "manifests"),
        ({"manifests": [descriptor("child", OCI_IMAGE)]}, "manifests"),
        ({"Manifests": []}, "Manifests"),
        ({"manife\u017fts": []}, "manife\u017fts"),
        ({"Layers": []}, "Layers"),
        ({"schemaVersion": "absent"}, "schemaVersion"),
        ({"schemaVersion": 1}, "schemaVersion"),
        ({"schemaVersion": 2.0}, "schemaVersion"),
        ({"schemaVersion": "2"}, "schemaVersion"),
        ({"schemaVersion": None}, "schemaVersion"),
        ({"config": "absent"}, "config"),
        ({"config": None}, "config"),
        ({"config": []}, "config"),
        ({"config": {}}, "config.mediaType"),
        ({"config": descriptor("x", "")}, "config.mediaType"),
        ({"config": descriptor("x", "a/" + "b" * 300)}, "config.mediaType"),
        ({"layers": {}}, "layers"),
        ({"layers": "x"}, "layers"),
        ({"layers": [descriptor("x"), None]}, r"layers\[1\]"),
        ({"layers": [descriptor("x", size=-1)]}, r"layers\[0\].size"),
        ({"layers": [descriptor("x", size=2**63)]}, r"layers\[0\].size"),
        ({"layers": [descriptor("x", size=1.0)]}, r"layers\[0\].size"),
        ({"layers": [descriptor("x", size=True)]}, r"layers\[0\].size"),
        ({"layers": [descriptor("x", size="1")]}, r"layers\[0\].size"),
        ({"layers": [descriptor("x", size=None)]}, r"layers\[0\].size"),
        ({"layers": [descriptor("x", digest="")]}, r"layers\[0\].digest"),
        ({"layers": [descriptor("x", digest=None)]}, r"layers\[0\].digest"),
        ({"layers": [descriptor("x", digest="sha256:..%2f")]}, r"layers\[0\].digest"),
        ({"layers": [descriptor("x", digest="SHA256:" + "a" * 64)]}, r"layers\[0\].digest"),
        ({"layers": [descriptor("x", urls="https://x")]}, r"layers\[0\].urls"),
        ({"layers": [descriptor("x", urls=[1])]}, r"layers\[0\].urls"),
        ({"layers": [descriptor("x", artifactType=1)]}, r"layers\[0\].artifactType"),
        ({"layers": [descriptor("x", annotations={"a": 1})]}, r"layers\[0\].annotations.a"),
        ({"annotations": []}, "annotations"),
        ({"annotations": ["a"]}, "annotations"),
        ({"annotations": {"a": None}}, "annotations.a"),
        ({"annotations": {"a": {"b": "c"}}}, "annotations.a"),
        ({"annotations": {"k" * 513: "v"}}, "annotations.k"),
        ({"subject": {}}, "subject.mediaType"),
        ({"subject": "sha256:abc"}, "subject"),
        ({"subject": descriptor("x", digest="sha256:abc")}, "subject.digest"),
        ({"artifactType": {}}, "artifactType"),
        ({"artifactType": "a" * 256}, "artifactType"),
    ],
)
def test_refused(changes: dict[str, Any], at: str) -> None:
    """Row 3.3 (CVE-2021-41190) and HAZARDS.md: the message tells what and where."""
    with pytest.raises(ManifestInvalidError, match=f"^{at}"):
        read(image(**changes))


def test_sizes_up_to_the_largest() -> None:
    manifest = read(image(layers=[descriptor("x", size=2**63 - 1), descriptor("y", size=0)]))
    assert [reference.length for reference in manifest.references()[1:]] == [2**63 - 1, 0]


def test_sha512_references() -> None:
    """Row 0.3: both algorithms, everywhere."""
    digest = str(Digest.of(b"x", "sha512"))
    assert str(read(image(layers=[descriptor("x", digest=digest)])).references()[1].digest) == digest
