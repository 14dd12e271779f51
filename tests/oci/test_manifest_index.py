"""Indexes: OCI and Docker's list (PROTOCOL.md rows 3.3 to 3.5, HAZARDS.md "Parsing")."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest

from distsql.errors import ManifestInvalidError
from distsql.oci.descriptor import Platform
from distsql.oci.digest import Digest
from distsql.oci.manifest import DOCKER_LIST, OCI_IMAGE, OCI_INDEX, ParsedManifest, Role, parse

MIB = 2**20


def descriptor(content: str, media_type: str = OCI_IMAGE, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content.encode())), "size": len(content), **more}


def index(*children: dict[str, Any], **changes: Any) -> dict[str, Any]:
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(children)}
    return {name: value for name, value in {**document, **changes}.items() if value != "absent"}


def read(document: dict[str, Any], media_type: str | None = OCI_INDEX) -> ParsedManifest:
    return parse(json.dumps(document).encode(), media_type)


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_children_with_their_platforms(media_type: str) -> None:
    document = index(
        descriptor("a", platform={"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"}),
        descriptor("b", platform={"os": "windows", "architecture": "amd64", "features": ["sse4"]}),
        descriptor("c", platform={}),
        descriptor("d"),
        mediaType=media_type,
    )
    manifest = read(document, media_type)
    assert [part.role for part in manifest.parts] == [Role.MANIFEST] * 4
    assert all(part.required for part in manifest.parts)
    assert [child.platform for child in manifest.references()] == [
        Platform("linux", "arm", "v7"),
        Platform("windows", "amd64"),
        None,
        None,
    ]


def test_nested_and_unknown_children() -> None:
    """Row 3.4: nested indexes; whatever stands in ``manifests`` is a manifest."""
    manifest = read(index(descriptor("a", OCI_INDEX), descriptor("b", "application/vnd.yet.to.come"), descriptor("c")))
    assert {part.role for part in manifest.parts} == {Role.MANIFEST}


@pytest.mark.parametrize("empty", [[], None, "absent"])
def test_empty_index(empty: list[Any] | str | None) -> None:
    """Row 3.4: an empty index, also as Go programs write it."""
    manifest = read(index(manifests=empty))
    assert manifest.references() == ()
    assert manifest.artifact_type is None


def test_an_index_with_a_subject() -> None:
    """Row 3.5: indexes have subjects too; there is no config to take an artifact type from."""
    manifest = read(index(subject=descriptor("s"), annotations={"a": "b"}, artifactType="x/y"))
    assert manifest.subject is not None
    assert manifest.subject.digest == Digest.of(b"s")
    assert (manifest.artifact_type, manifest.config_media_type, manifest.annotations) == ("x/y", None, {"a": "b"})


def test_children_keep_artifact_types_and_annotations() -> None:
    """Row 4.3: the entries of a fallback tag's index carry what the referrers API shows."""
    (child,) = read(index(descriptor("a", artifactType="x/y", annotations={"k": "v"}))).references()
    assert (child.artifact_type, child.annotations) == ("x/y", {"k": "v"})


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"config": descriptor("c")}, "config"),
        ({"layers": []}, "layers"),
        ({"config": descriptor("c"), "layers": [descriptor("l")]}, "config"),
        ({"CONFIG": {}}, "CONFIG"),
        ({"MediaType": OCI_IMAGE}, "MediaType"),
        ({"schemaVersion": "absent"}, "schemaVersion"),
        ({"schemaVersion": 1}, "schemaVersion"),
        ({"schemaVersion": True}, "schemaVersion"),
        ({"manifests": {}}, "manifests"),
        ({"manifests": [[]]}, r"manifests\[0\]"),
        ({"manifests": [descriptor("a", platform="linux")]}, r"manifests\[0\].platform"),
        ({"manifests": [descriptor("a", platform={"os": 1})]}, r"manifests\[0\].platform.os"),
        ({"manifests": [descriptor("a", platform={"variant": "v" * 256})]}, r"manifests\[0\].platform.variant"),
        ({"manifests": [descriptor("a"), descriptor("b", digest="b")]}, r"manifests\[1\].digest"),
    ],
)
def test_refused(changes: dict[str, Any], at: str) -> None:
    """Row 3.3 (CVE-2021-41190): an index that is an image as well, in any spelling, and what breaks the format."""
    with pytest.raises(ManifestInvalidError, match=f"^{at}:"):
        read(index(**changes))


def test_too_many_references() -> None:
    """HAZARDS.md "a million descriptors"."""
    child = json.dumps(descriptor("a", newUnspecifiedField="x" * 20)).encode()
    payload = b'{"schemaVersion":2,"manifests":[' + b",".join([child] * 100_001) + b"]}"
    with pytest.raises(ManifestInvalidError, match="at most 100000 references"):
        parse(payload, OCI_INDEX)


def test_a_large_index_is_cheap() -> None:
    """HAZARDS.md "memory flat": a MiB of children in a few times that (the limits are generous: machines are busy)."""
    platform = {"architecture": "amd64", "os": "linux"}
    children = [descriptor(str(number), platform=platform) for number in range(5_000)]
    payload = json.dumps(index(*children), separators=(",", ":")).encode()
    assert len(payload) > 0.9 * MIB
    begun = time.process_time()
    assert len(parse(payload).parts) == 5_000
    assert time.process_time() - begun < 1
    tracemalloc.start()
    parse(payload)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * MIB
