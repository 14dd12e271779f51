"""What the processes that serve keep in memory: not what passes through them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import pytest

from tests.server.conftest import Start
from tests.server.processes import Serve
from tests.server.pushes import begin, content, digest_of, push_blob
from tests.server.wire import Wire

CLIENTS = 16
LENGTH = 64 * 1024**2
ALLOWED = 32 * 1024**2


def together(work: Callable[[int], None]) -> None:
    """All clients at once; an error in one of them fails the test."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=run, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


class Watch:
    """The most that the workers had while it ran."""

    def __init__(self, server: Serve) -> None:
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak = 0

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.peak = max(self.peak, self._server.resident())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def pieces(number: int, block: bytes) -> Iterator[bytes]:
    """64 MiB that nobody else has."""
    yield number.to_bytes(4, "big") + block[4:]
    for _ in range(LENGTH // len(block) - 1):
        yield block


@pytest.mark.slow
def test_memory_does_not_grow_with_load(start_serve: Start, catalogue: tuple[str, ...]) -> None:
    """16 clients push 64 MiB each and pull them again, all at once: less than 32 MiB more than when idle."""
    server = start_serve(catalogue, env={"DISTSQL_ACCESS_LOG": "off"})
    block = content("memory", 1024**2)
    digests: list[str] = []
    for number in range(CLIENTS):
        hasher = hashlib.sha256()
        for piece in pieces(number, block):
            hasher.update(piece)
        digests.append(f"sha256:{hasher.hexdigest()}")

    def upload(number: int) -> None:
        with server.client() as client, Wire(server.port, timeout=120) as wire:
            session = begin(client, "acme/web")
            wire.request("PUT", f"{session}?digest={digests[number]}", [f"Content-Length: {LENGTH}"])
            for piece in pieces(number, block):
                wire.send(piece)
            assert wire.answer().status == 201

    def download(number: int) -> None:
        with Wire(server.port, timeout=120) as wire:
            wire.request("GET", f"/v2/acme/web/blobs/{digests[number]}")
            wire.head()
            left = LENGTH
            while left:
                left -= len(wire.take(min(left, 1024**2)))

    with server.client() as client:  # each way is gone once
        for number in range(4):
            data = content(f"warm/{number}", 2 * 1024**2)
            push_blob(client, "acme/web", data)
            assert client.get(f"/v2/acme/web/blobs/{digest_of(data)}").content == data
    time.sleep(0.5)
    idle = server.resident()
    with Watch(server) as uploading:
        together(upload)
    with Watch(server) as downloading:
        together(download)
    time.sleep(0.5)
    after = server.resident()
    grown = {"uploading": uploading.peak, "downloading": downloading.peak, "after": after}
    told = {name: f"{(peak - idle) / 1024**2:+.1f} MiB" for name, peak in grown.items()}
    print(f"idle {idle / 1024**2:.0f} MiB, then", told)  # noqa: T201  # a measurement: pytest -rP shows it
    assert max(grown.values()) - idle < ALLOWED, told
