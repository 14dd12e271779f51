"""What the servers hold: the same content in each, put there through the ordinary HTTP API.

The many tags would take minutes one by one. distsql takes ten with each manifest (`PUT ...?tag=a&tag=b`, distribution
specification 1.2); the peer doesn't, so its tags are written into its folders, as it would write them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

from benchmarks.clients import Buffers, Response, Script, expect, request, run_scripts
from benchmarks.servers import DockerRegistry, Server

APP: Final = "bench/app"
MANY_TAGS: Final = "bench/tags"
TAG: Final = "latest"
LAYERS: Final = 10
BATCH: Final = 10
SMALL: Final = 1024
SALT: Final = 16

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
# What docker and containerd ask for.
ACCEPT: Final = (
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    f"application/vnd.oci.image.index.v1+json, {MANIFEST_TYPE}"
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
    buffers: Buffers
    digest: str

    @property
    def length(self) -> int:
        return sum(map(len, self.buffers))


class BlobSource:
    """Blobs of one size, no two the same. They differ in their last bytes, so that each is hashed in microseconds."""

    def __init__(self, size: int) -> None:
        self._start = os.urandom(size - SALT)
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
    tags: int
    """Of the repository with many of them."""


class Content:
    """Made once for each run, and put into every server."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.small_blobs = BlobSource(SMALL)
        self.large_blobs = BlobSource(sizes.large)
        self.large = self.large_blobs.make()
        self.config, *self.layers = [self.small_blobs.make() for _ in range(LAYERS + 1)]
        self._template = _make_manifest(self.config, self.layers)
        self.manifest = self.make_manifest()
        self.digest = f"sha256:{hashlib.sha256(self.manifest).hexdigest()}"
        self.tags = [f"v{number:06}" for number in range(sizes.tags)]

    def make_manifest(self) -> bytes:
        """A manifest like no other, of the same layers."""
        return self._template.replace(SLOT, make_salt().hex().encode())

    def fill(self, server: Server) -> None:
        small = [self.config, *self.layers]
        run_scripts(server.port, [upload_all(APP, iter([*small, self.large])), upload_all(MANY_TAGS, iter(small))])
        run_scripts(server.port, [tag_all(name, self.manifest, iter([TAG])) for name in (APP, MANY_TAGS)])
        if isinstance(server, DockerRegistry):
            self._write_tags(server)
        else:
            # PUT by digest, with tags beside it.
            batches = (self.tags[start : start + BATCH] for start in range(0, len(self.tags), BATCH))
            references = (f"{self.digest}?{'&'.join(f'tag={tag}' for tag in batch)}" for batch in batches)
            run_scripts(server.port, [tag_all(MANY_TAGS, self.manifest, references)])

    def _write_tags(self, server: DockerRegistry) -> None:
        root = server.storage / "docker/registry/v2/repositories" / MANY_TAGS / "_manifests/tags"
        for tag in self.tags:
            # Not the `index` folder beside it, which is for deleting only.
            (root / tag / "current").mkdir(parents=True)
            (root / tag / "current/link").write_text(self.digest)


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


def put_manifest(repository: str, reference: str, manifest: bytes) -> Buffers:
    headers = f"Content-Type: {MANIFEST_TYPE}\r\n"
    return request("PUT", f"/v2/{repository}/manifests/{reference}", headers=headers, body=(manifest,))


def _finish_path(opened: Response, blob: Blob) -> str:
    """Location may be a path or a URL, with a query of its own or without."""
    location = opened.header("location") or ""
    path = "/" + location.split("/", 3)[3] if location.startswith("http") else location
    return f"{path}{'&' if '?' in path else '?'}digest={blob.digest}"


def _make_manifest(config: Blob, layers: list[Blob]) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": config.digest, "size": config.length},
        "layers": [{"mediaType": LAYER_TYPE, "digest": blob.digest, "size": blob.length} for blob in layers],
        "annotations": {"org.opencontainers.image.revision": SLOT.decode()},
    }
    return json.dumps(document, indent=2).encode()
