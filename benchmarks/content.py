"""What the servers hold, and how it is sent to them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from benchmarks.clients import Buffers, Response, Script, expect, request
from benchmarks.servers import TENANT

APP: Final = f"{TENANT}/app"
MANY_TAGS: Final = f"{TENANT}/tags"
IMAGE: Final = f"{TENANT}/image"
CATALOGUE: Final = f"{TENANT}/catalogue"
TAG: Final = "latest"
LAYERS: Final = 10
CHUNKS: Final = 16
REFERRERS: Final = 100
SMALL: Final = 1024
SALT: Final = 16

INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
# What docker and containerd ask for.
ACCEPT: Final = (
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    f"{INDEX_TYPE}, {MANIFEST_TYPE}"
)
OCTETS: Final = "Content-Type: application/octet-stream\r\n"
SLOT: Final = b"@" * (2 * SALT)
"""The place of a number that makes a manifest unlike every other."""


# Random once and then counted: a system call for each number would be the dearest part of making a request.
_RUN: Final = os.urandom(SALT // 2)
_numbers: Final = count()


def make_salt() -> bytes:
    """Bytes like no others, in this run or another."""
    return _RUN + next(_numbers).to_bytes(SALT - len(_RUN), "big")


@dataclass(frozen=True, slots=True)
class Blob:
    buffers: Sequence[bytes]
    digest: str

    @property
    def length(self) -> int:
        return sum(map(len, self.buffers))


class BlobSource:
    """Blobs of one size, no two the same. They differ in their last bytes, so that each is hashed in microseconds."""

    def __init__(self, size: int, begin: bytes = b"") -> None:
        self.size = size
        self._start = begin + os.urandom(size - SALT - len(begin))
        self._hash = hashlib.sha256(self._start)

    def make(self) -> Blob:
        end = make_salt()
        digest = self._hash.copy()
        digest.update(end)
        return Blob((self._start, end), f"sha256:{digest.hexdigest()}")


@dataclass(frozen=True, slots=True)
class Sizes:
    large: int
    """Bytes of the large blob."""
    medium: int
    layer: int
    """Bytes of each layer of an image that real clients push."""
    chunked: int
    """Bytes of the blob that is uploaded in chunks."""
    tags: int
    """Of the repository with many of them."""
    repositories: int
    """Of the catalogue, at least."""


class Content:
    """Made once for each run, and put into every server."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.small_blobs = BlobSource(SMALL)
        self.large_blobs = BlobSource(sizes.large)
        self.large = self.large_blobs.make()
        self.medium = BlobSource(sizes.medium).make()
        self.config, *self.layers = [self.small_blobs.make() for _ in range(LAYERS + 1)]
        self._template = _make_manifest(self.config, self.layers)
        self.manifest = self.make_manifest()
        self.digest = digest_of(self.manifest)
        self.tags = [f"v{number:06}" for number in range(sizes.tags)]
        self.repositories = [f"{CATALOGUE}/r{number:05}" for number in range(sizes.repositories)]
        self.referrers = [_make_manifest(self.config, [], subject=self.manifest, number=n) for n in range(REFERRERS)]

    def make_manifest(self) -> bytes:
        """A manifest like no other, of the same layers."""
        return self._template.replace(SLOT, make_salt().hex().encode())

    @property
    def fallback_tag(self) -> str:
        """Under which a registry without a referrers API has an index of them (distribution specification, 1.1)."""
        return self.digest.replace(":", "-")

    def make_fallback_index(self) -> bytes:
        entries = [{"mediaType": MANIFEST_TYPE, "digest": digest_of(one), "size": len(one)} for one in self.referrers]
        return json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}).encode()


def upload_all(repository: str, blobs: Iterator[Blob]) -> Script:
    """A client that uploads blobs one after another: POST, then PUT with the whole content."""
    for blob in blobs:
        opened = yield request("POST", f"/v2/{repository}/blobs/uploads/")
        expect(opened, 202, "POST of an upload")
        finished = yield request("PUT", _finish_path(opened, blob), headers=OCTETS, body=blob.buffers)
        expect(finished, 201, "PUT of an upload")


def tag_all(repository: str, manifest: bytes, references: Iterator[str]) -> Script:
    """A client that puts one manifest under tag after tag."""
    for reference in references:
        expect((yield put_manifest(repository, reference, manifest)), 201, "PUT of a manifest")


def put_manifest(repository: str, reference: str, manifest: bytes, media_type: str = MANIFEST_TYPE) -> Buffers:
    headers = f"Content-Type: {media_type}\r\n"
    return request("PUT", f"/v2/{repository}/manifests/{reference}", headers=headers, body=(manifest,))


def upload_in_chunks(repository: str, blob: Blob, size: int) -> Script:
    """A client that uploads a blob in chunks of so many bytes: POST, PATCH with Content-Range, and an empty PUT."""
    opened = yield request("POST", f"/v2/{repository}/blobs/uploads/")
    expect(opened, 202, "POST of an upload")
    begun = 0
    for chunk in _cut(blob, size):
        length = sum(map(len, chunk))
        headers = f"{OCTETS}Content-Range: {begun}-{begun + length - 1}\r\n"
        opened = yield request("PATCH", _location(opened), headers=headers, body=chunk)
        expect(opened, 202, "PATCH of an upload")
        begun += length
    expect((yield request("PUT", _finish_path(opened, blob))), 201, "PUT of an upload")


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _cut(blob: Blob, size: int) -> Iterator[Buffers]:
    """The blob's content in pieces, none of which is copied; its last bytes are a buffer of their own."""
    content, end = blob.buffers
    view = memoryview(content)
    for begin in range(0, blob.length, size):
        piece = view[begin : begin + size]
        yield (piece, end) if begin + size >= blob.length else (piece,)


def _location(opened: Response) -> str:
    """A path of it, which may be a URL."""
    location = opened.header("location") or ""
    return "/" + location.split("/", 3)[3] if location.startswith("http") else location


def _finish_path(opened: Response, blob: Blob) -> str:
    """Location may have a query of its own."""
    path = _location(opened)
    return f"{path}{'&' if '?' in path else '?'}digest={blob.digest}"


def _make_manifest(config: Blob, layers: list[Blob], *, subject: bytes = b"", number: int | None = None) -> bytes:
    """With a slot for what makes it unlike others, unless it has a number."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": config.digest, "size": config.length},
        "layers": [{"mediaType": LAYER_TYPE, "digest": blob.digest, "size": blob.length} for blob in layers],
        "annotations": {"org.opencontainers.image.revision": SLOT.decode() if number is None else str(number)},
    }
    if subject:
        document["subject"] = {"mediaType": MANIFEST_TYPE, "digest": digest_of(subject), "size": len(subject)}
    return json.dumps(document, indent=2).encode()
