"""What the tests push, and pushing it by HTTP in the plainest way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

import httpx

OCI_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_IMAGE: Final = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG: Final = b'{"architecture":"amd64","os":"linux"}'
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
ABSENT: Final = "sha256:" + "0" * 64


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def described(content: bytes, media_type: str, algorithm: str = "sha256", **fields: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(content, algorithm), "size": len(content), **fields}


def image(*layers: bytes, **fields: object) -> bytes:
    """An OCI image of the common config and these layers."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": described(CONFIG, CONFIG_TYPE),
            "layers": [described(layer, LAYER_TYPE) for layer in layers],
            **fields,
        }
    ).encode()


def index(*children: bytes, **fields: object) -> bytes:
    """An OCI index of these manifests."""
    manifests = [described(child, json.loads(child)["mediaType"]) for child in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests, **fields}).encode()


def artifact(subject: str, kind: str, **annotations: str) -> bytes:
    """An image without layers that says something about a subject."""
    return image(
        artifactType=kind,
        subject={"mediaType": OCI_IMAGE, "digest": subject, "size": 7},
        annotations=annotations,
    )


async def push_blob(client: httpx.AsyncClient, name: str, content: bytes, algorithm: str = "sha256") -> str:
    digest = digest_of(content, algorithm)
    answer = await client.post(f"/v2/{name}/blobs/uploads/", params={"digest": digest}, content=content)
    assert answer.status_code == 201, answer.text
    return digest


async def put_manifest(
    client: httpx.AsyncClient,
    name: str,
    payload: bytes,
    reference: str | None = None,
    *,
    media_type: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> httpx.Response:
    """PUTs by its sha256 digest when no reference is given, as the media type that it says it is."""
    media_type = media_type or json.loads(payload)["mediaType"]
    url = f"/v2/{name}/manifests/{reference or digest_of(payload)}"
    return await client.put(url, content=payload, headers={"content-type": media_type}, params=params)


async def push_manifest(client: httpx.AsyncClient, name: str, payload: bytes, reference: str | None = None) -> str:
    """PUTs the manifest, which has to succeed, and gives its sha256 digest."""
    answer = await put_manifest(client, name, payload, reference)
    assert answer.status_code == 201, answer.text
    return digest_of(payload)


async def push_image(
    client: httpx.AsyncClient, name: str, *layers: bytes, tags: Iterable[str] = (), **fields: object
) -> bytes:
    """Pushes an image with its blobs, by digest or by the tags, and gives its payload."""
    for content in (CONFIG, *layers):
        await push_blob(client, name, content)
    payload = image(*layers, **fields)
    for reference in tuple(tags) or (None,):
        await push_manifest(client, name, payload, reference)
    return payload


async def begin_upload(client: httpx.AsyncClient, name: str, **params: str) -> str:
    """The location of a new session."""
    answer = await client.post(f"/v2/{name}/blobs/uploads/", params=params)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


async def in_pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    """A body that httpx sends chunked, without a Content-Length."""
    for piece in pieces:
        yield piece


def errors(answer: httpx.Response) -> list[str]:
    """The codes of an answer that has the specification's error body and nothing else."""
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    body = answer.json()
    assert set(body) == {"errors"}
    for error in body["errors"]:
        assert set(error) <= {"code", "message", "detail"}
        assert isinstance(error["message"], str)
        assert error["message"]
    return [error["code"] for error in body["errors"]]


async def pages(client: httpx.AsyncClient, url: str) -> AsyncIterator[dict[str, Any]]:
    """Every page from this one on, as the Links lead."""
    while url:
        answer = await client.get(url)
        assert answer.status_code == 200, answer.text
        yield answer.json()
        url = answer.links["next"]["url"] if "link" in answer.headers else ""
