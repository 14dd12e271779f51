"""A manifest of every family, over the same few blobs; and plain manifests that nobody has looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from distsql.contract import Manifest, Repository
from distsql.oci.descriptor import Descriptor
from distsql.oci.digest import Digest
from distsql.oci.manifest import (
    DOCKER_IMAGE,
    DOCKER_LIST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    OCI_IMAGE,
    OCI_INDEX,
    ParsedManifest,
    parse,
)
from tests.libtrust import Block, p256, pretty
from tests.registry.pushing import CONFIG, push_blob

LAYERS: Final = (b"first layer", b"second layer")
FOREIGN: Final = b"a layer that only its vendor may give away"


@dataclass(frozen=True)
class PlainManifest:
    """What a program may hand in: nobody has checked it."""

    payload: bytes
    media_type: str
    digest: Digest
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None

    def references(self) -> tuple[Descriptor, ...]:
        return ()


def plain(payload: bytes, media_type: str, digest: Digest | None = None) -> Manifest:
    return PlainManifest(payload, media_type, digest or Digest.of(payload))


def descriptor(content: bytes, media_type: str = "application/vnd.oci.image.layer.v1.tar") -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}


def oci_image(**more: object) -> ParsedManifest:
    return parse(
        _json(
            schemaVersion=2,
            mediaType=OCI_IMAGE,
            config=descriptor(CONFIG, "application/vnd.oci.image.config.v1+json"),
            layers=[descriptor(layer) for layer in LAYERS],
            **more,
        )
    )


def docker_image() -> ParsedManifest:
    foreign = descriptor(FOREIGN, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    return parse(
        _json(
            schemaVersion=2,
            mediaType=DOCKER_IMAGE,
            config=descriptor(CONFIG, "application/vnd.docker.container.image.v1+json"),
            layers=[foreign | {"urls": ["https://vendor.test/layer"]}, *map(_docker_layer, LAYERS)],
        )
    )


def index(*children: Manifest, media_type: str = OCI_INDEX, **more: object) -> ParsedManifest:
    manifests = [
        {
            "mediaType": child.media_type,
            "digest": str(child.digest),
            "size": len(child.payload),
            "platform": {"os": "linux", "architecture": f"cpu{number}"},
        }
        for number, child in enumerate(children)
    ]
    return parse(_json(schemaVersion=2, mediaType=media_type, manifests=manifests, **more))


def schema1(**changes: object) -> ParsedManifest:
    return parse(_schema1(**changes), DOCKER_SCHEMA1)


def schema1_signed(*blocks: Block, **changes: object) -> ParsedManifest:
    """By somebody, or with these signatures."""
    canonical = _schema1(**changes)
    return parse(pretty(canonical, *(blocks or [p256("somebody").block(canonical)])), DOCKER_SCHEMA1_SIGNED)


def anything() -> ParsedManifest:
    return parse(b'{"blobs": [], "what": "an artifact of the future"}', "application/vnd.example.thing.v9+json")


def every_family() -> dict[str, ParsedManifest]:
    """By name. Those that come first are children of those that come later."""
    image, docker = oci_image(annotations={"org.example.note": "ü"}), docker_image()
    return {
        "oci image": image,
        "oci image in sha512": parse(image.payload + b"\n", OCI_IMAGE, Digest.of(image.payload + b"\n", "sha512")),
        "oci artifact": oci_image(
            artifactType="application/vnd.example.sbom", subject=descriptor(b"absent", OCI_IMAGE)
        ),
        "docker image": docker,
        "oci index": index(image, docker, annotations={"k": "v"}),
        "docker list": index(docker, media_type=DOCKER_LIST),
        "schema 1": schema1(),
        "schema 1, signed": schema1_signed(tag="v2"),
        "any other": anything(),
    }


async def push_blobs(repository: Repository) -> None:
    """What the manifests above refer to."""
    for content in (CONFIG, *LAYERS):
        await push_blob(repository, content)


def _schema1(**changes: object) -> bytes:
    document = {
        "schemaVersion": 1,
        "name": "acme/web",
        "tag": "v1",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": str(Digest.of(layer))} for layer in LAYERS],
        "history": [{"v1Compatibility": "{}"} for _ in LAYERS],
        **changes,
    }
    return json.dumps(document, indent=3).encode()


def _docker_layer(content: bytes) -> dict[str, object]:
    return descriptor(content, "application/vnd.docker.image.rootfs.diff.tar.gzip")


def _json(**document: object) -> bytes:
    return json.dumps(document).encode()
