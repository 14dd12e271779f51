"""What a client pushes, and a load of it that remembers what was acknowledged."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import httpx

from tests.server.processes import wait_until

IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCTETS = "application/octet-stream"
# What a client meets when the process at the other end is killed or stopped.
BROKEN = (httpx.TransportError,)
# Leaves processor time to servers that start meanwhile.
_PAUSE_S = 0.02


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def content(seed: object, length: int) -> bytes:
    return random.Random(str(seed)).randbytes(length)


def begin(client: httpx.Client, name: str) -> str:
    """A session's path."""
    answer = client.post(f"/v2/{name}/blobs/uploads/")
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def finish(client: httpx.Client, location: str, data: bytes, digest: str) -> httpx.Response:
    return client.put(location, params={"digest": digest}, content=data)


def push_blob(client: httpx.Client, name: str, data: bytes) -> str:
    answer = finish(client, begin(client, name), data, digest_of(data))
    assert answer.status_code == 201, answer.text
    return digest_of(data)


@dataclass(frozen=True)
class Image:
    """A config, layers, and the manifest that refers to them."""

    config: bytes
    layers: tuple[bytes, ...]

    @cached_property
    def manifest(self) -> bytes:
        def describe(media_type: str, data: bytes) -> dict[str, object]:
            return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": IMAGE,
                "config": describe("application/vnd.oci.image.config.v1+json", self.config),
                "layers": [describe("application/vnd.oci.image.layer.v1.tar", each) for each in self.layers],
            }
        ).encode()

    @property
    def blobs(self) -> tuple[bytes, ...]:
        return (self.config, *self.layers)


def image(seed: object, *, layers: int = 2, length: int = 20_000) -> Image:
    config = json.dumps({"architecture": "amd64", "os": "linux", "seed": str(seed)}).encode()
    return Image(config, tuple(content(f"{seed}/{number}", length) for number in range(layers)))


def put_manifest(client: httpx.Client, name: str, tag: str, made: Image) -> httpx.Response:
    return client.put(f"/v2/{name}/manifests/{tag}", content=made.manifest, headers={"content-type": IMAGE})


def push(client: httpx.Client, name: str, tag: str, made: Image) -> None:
    for blob in made.blobs:
        push_blob(client, name, blob)
    answer = put_manifest(client, name, tag, made)
    assert answer.status_code == 201, answer.text


def assert_image(client: httpx.Client, name: str, tag: str, made: Image) -> None:
    """A pull gives exactly what was pushed."""
    answer = client.get(f"/v2/{name}/manifests/{tag}")
    assert answer.status_code == 200, f"{name}:{tag}: {answer.text}"
    assert answer.content == made.manifest
    assert_blobs(client, name, made.blobs)


def assert_blobs(client: httpx.Client, name: str, blobs: Iterable[bytes]) -> None:
    for blob in blobs:
        answer = client.get(f"/v2/{name}/blobs/{digest_of(blob)}")
        assert answer.status_code == 200, f"{name}@{digest_of(blob)}: {answer.text}"
        assert answer.content == blob


@dataclass
class Load:
    """Clients that push images until told to stop; what was acknowledged must be there for ever."""

    urls: list[str]
    name: str
    clients: int = 3
    length: int = 200_000
    blobs: list[tuple[str, bytes]] = field(default_factory=list)
    images: list[tuple[str, str, Image]] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client_number: int) -> None:
        sequence = 0
        while not self._stopping.is_set():
            url = self.urls[sequence % len(self.urls)]
            try:
                with httpx.Client(base_url=url, timeout=30) as client:
                    while not self._stopping.is_set() and self._push(client, client_number, sequence):
                        sequence += 1
                        if len(self.urls) > 1:
                            break
            except BROKEN as error:
                self.broken.append(repr(error))
                time.sleep(0.02)
            sequence += 1

    def _push(self, client: httpx.Client, client_number: int, sequence: int) -> bool:
        made = image(f"{self.name}/{client_number}/{sequence}", length=self.length)
        name, tag = f"{self.name}/{client_number}", f"t{sequence}"
        for blob in made.blobs:
            begun = client.post(f"/v2/{name}/blobs/uploads/")
            if not self._expect(begun, 202):
                return True
            half = len(blob) // 2
            patched = client.patch(begun.headers["location"], content=blob[:half])
            if not self._expect(patched, 202):
                return True
            if not self._expect(finish(client, begun.headers["location"], blob[half:], digest_of(blob)), 201):
                return True
            self.blobs.append((name, blob))
        if self._expect(put_manifest(client, name, tag, made), 201):
            self.images.append((name, tag, made))
        time.sleep(_PAUSE_S)
        return True

    def _expect(self, answer: httpx.Response, status: int) -> bool:
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        if answer.status_code == 503 and "retry-after" not in answer.headers:
            self.problems.append("503 without Retry-After")
        elif answer.status_code not in {status, 503}:
            self.problems.append(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
        if answer.status_code == 503:
            time.sleep(0.05)
        return answer.status_code == status

    def wait_for(self, images: int) -> None:
        """Until so many more are pushed."""
        wanted = len(self.images) + images
        wait_until(lambda: len(self.images) >= wanted, seconds=60, what=f"{images} more pushes")

    def assert_kept(self, client: httpx.Client) -> None:
        """Everything acknowledged can be pulled."""
        for name, blob in self.blobs:
            answer = client.head(f"/v2/{name}/blobs/{digest_of(blob)}")
            assert answer.status_code == 200, f"{name} has lost {digest_of(blob)}"
            assert answer.headers["content-length"] == str(len(blob))
        for name, tag, made in self.images:
            assert_image(client, name, tag, made)
