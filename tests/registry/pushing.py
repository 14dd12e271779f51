"""Small images to push: what many tests begin with."""

from __future__ import annotations

import json
from collections.abc import Sequence

from distsql.contract import Repository
from distsql.oci.digest import Digest
from distsql.oci.manifest import OCI_IMAGE, OCI_INDEX, ParsedManifest, parse

CONFIG = b'{"architecture":"amd64","os":"linux"}'


async def push_blob(repository: Repository, content: bytes) -> Digest:
    digest = Digest.of(content)
    async with await repository.layers.upload() as upload:
        await upload.write(content)
        await upload.finish(digest)
    return digest


def image(
    *layers: bytes,
    subject: Digest | None = None,
    artifact_type: str | None = None,
    config: bytes = CONFIG,
    **annotations: str,
) -> ParsedManifest:
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer) for layer in layers],
        "annotations": annotations,
    }
    if subject:
        document["subject"] = {"mediaType": OCI_IMAGE, "digest": str(subject), "size": 2}
    if artifact_type:
        document["artifactType"] = artifact_type
    return parse(json.dumps(document).encode())


def index(*children: ParsedManifest) -> ParsedManifest:
    manifests = [
        {"mediaType": child.media_type, "digest": str(child.digest), "size": len(child.payload)} for child in children
    ]
    return parse(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode())


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}


async def push_image(
    repository: Repository,
    *layers: bytes,
    tags: Sequence[str] = (),
    subject: Digest | None = None,
    artifact_type: str | None = None,
    config: bytes = CONFIG,
    **annotations: str,
) -> ParsedManifest:
    for content in (config, *layers):
        await push_blob(repository, content)
    manifest = image(*layers, subject=subject, artifact_type=artifact_type, config=config, **annotations)
    await repository.manifests.put(manifest, tags)
    return manifest
