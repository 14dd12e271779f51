"""JSON manifests of any other media type (PROTOCOL.md row 3.4: any media type)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distsql.errors import ManifestInvalidError
from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest, Role, descriptors, parse

ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"


def descriptor(content: str, media_type: str = "a/b", **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content.encode())), "size": len(content), **more}


def read(document: dict[str, Any], media_type: str = "application/vnd.example+json") -> ParsedManifest:
    return parse(json.dumps(document).encode(), media_type)


def test_the_artifact_manifest() -> None:
    """The OCI artifact manifest of 1.1-rc, which ORAS still pushes: blobs, subject, artifactType."""
    manifest = read(
        {
            "mediaType": ARTIFACT,
            "artifactType": "x/y",
            "blobs": [descriptor("one"), descriptor("two")],
            "subject": descriptor("subject"),
            "annotations": {"a": "b"},
        },
        ARTIFACT,
    )
    assert [part.role for part in manifest.parts] == [Role.BLOB, Role.BLOB]
    assert manifest.subject is not None
    assert (manifest.artifact_type, manifest.annotations) == ("x/y", {"a": "b"})


def test_whatever_looks_like_references_is() -> None:
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    manifest = read(
        {
            "config": descriptor("c", "c/d"),
            "layers": [descriptor("l"), descriptor("f", foreign)],
            "blobs": [descriptor("b")],
            "manifests": [descriptor("m")],
        }
    )
    assert [(part.role.value, part.required) for part in manifest.parts] == [
        ("config", True),
        ("layer", True),
        ("layer", False),
        ("blob", True),
        ("manifest", True),
    ]
    assert manifest.config_media_type == "c/d"
    assert manifest.artifact_type is None


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"schemaVersion": 7},
        {"config": "config.yaml", "layers": {"a": 1}, "manifests": 5, "blobs": None},
        {"layers": ["sha256:" + "a" * 64]},
        {"layers": [descriptor("l"), {"digest": "?"}]},
        {"manifests": [{"name": "not a descriptor"}]},
        {"subject": "Greetings", "annotations": ["x"], "artifactType": 5},
        {"annotations": {"a": 1}, "artifactType": "x" * 300, "subject": {"mediaType": "a/b"}},
    ],
)
def test_other_formats_have_other_meanings(document: dict[str, Any]) -> None:
    """Row 3.4: a format that nobody here knows is stored, and what isn't a descriptor is no reference."""
    manifest = read(document)
    assert manifest.references() == ()
    assert (manifest.subject, manifest.artifact_type, manifest.annotations) == (None, None, {})


@pytest.mark.parametrize("payload", [b"plain text", b"[]", b"", b"a: yaml"])
def test_only_json_objects_are_manifests(payload: bytes) -> None:
    with pytest.raises(ManifestInvalidError):
        parse(payload, "text/plain")


@pytest.mark.parametrize("lists", [{"layers": 6, "blobs": 5}, {"blobs": 11}, {"manifests": 11}])
def test_too_many_references_in_all(lists: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """HAZARDS.md "a million descriptors": the bound holds for unknown formats too, over all their lists."""
    monkeypatch.setattr(descriptors, "MAX_REFERENCES", 10)
    with pytest.raises(ManifestInvalidError, match="at most 10 references"):
        read({name: [descriptor("a")] * count for name, count in lists.items()})
    read({name: [descriptor("a")] * (count - 1) for name, count in lists.items()})
