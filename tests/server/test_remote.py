"""`distsql.remote` against a server in another process: bodies stream both ways, and connections break."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from distsql.errors import UnavailableError
from distsql.oci.digest import Digest
from distsql.remote import connect
from distsql.values import ASGIMessage
from tests.server.conftest import Start
from tests.server.processes import Serve, free_port

PIECE = b"\xa5" * 1024 * 1024
LENGTH = 64 * len(PIECE)
# Chunks of 8 MiB, and what a list grows ahead.
ALLOWED = 24 * 1024**2


async def content() -> AsyncIterator[bytes]:
    for number in range(LENGTH // len(PIECE)):
        yield number.to_bytes(8) + PIECE[8:]


async def digest_of(pieces: AsyncIterator[bytes]) -> Digest:
    hasher = hashlib.sha256()
    async for piece in pieces:
        hasher.update(piece)
    return Digest.from_hash(hasher)


@pytest.mark.slow
async def test_a_large_blob_takes_little_memory_both_ways(shared_serve: Serve) -> None:
    digest = await digest_of(content())
    async with connect(shared_serve.url) as namespace:
        layers = namespace.repository("remote/large").layers
        tracemalloc.start()
        try:
            async with await layers.upload() as upload:
                assert await upload.read_from(content()) == LENGTH
                layer = await upload.finish(digest)

            async def pieces() -> AsyncIterator[bytes]:
                while piece := await layer.read(1 << 20):
                    yield piece

            async with layer:
                assert await digest_of(pieces()) == digest
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < ALLOWED
        received = 0

        async def receive() -> ASGIMessage:
            return {"type": "http.request"}

        async def send(message: ASGIMessage) -> None:
            nonlocal received
            received += len(message.get("body", b""))

        request = {"type": "http", "method": "GET", "headers": [(b"range", b"bytes=100-")]}
        await layer.handler(request)(request, receive, send)
        assert received == LENGTH - 100


async def test_a_layer_is_read_from_anywhere(shared_serve: Serve) -> None:
    whole = bytes(range(256)) * 4096
    async with connect(shared_serve.url) as namespace:
        layers = namespace.repository("remote/seeking").layers
        async with await layers.upload() as upload:
            await upload.write(whole)
            layer = await upload.finish(Digest.of(whole))
        async with layer:
            for start, size in ((0, 10), (10, 10), (1_000_000, 100), (5, 70_000), (70_005, 1), (0, len(whole))):
                layer.seek(start)
                assert await layer.read(size) == whole[start : start + size]
                assert layer.tell() == start + size
            layer.seek(-3, 2)
            assert await layer.read() == whole[-3:]


async def test_an_upload_goes_on_over_another_connection(shared_serve: Serve) -> None:
    async with connect(shared_serve.url) as namespace:
        async with await namespace.repository("remote/resumed").layers.upload() as upload:
            await upload.write(PIECE)
        uuid = upload.uuid
    async with connect(shared_serve.url) as namespace:
        async with await namespace.repository("remote/resumed").layers.resume(uuid) as again:
            assert (again.tell(), again.started_at) == (len(PIECE), upload.started_at)
            await again.write(b"end")
            layer = await again.finish(Digest.of(PIECE + b"end"))
        assert layer.length == len(PIECE) + 3


async def test_a_registry_that_is_away(start_serve: Start, catalogue: tuple[str, ...]) -> None:
    async with connect(f"http://127.0.0.1:{free_port()}") as namespace:
        with pytest.raises(UnavailableError):
            await namespace.repository("acme/web").exists()
    server = start_serve(catalogue)
    async with connect(server.url) as namespace:
        layers = namespace.repository("acme/web").layers
        async with await layers.upload() as upload:
            await upload.write(b"x")
            layer = await upload.finish(Digest.of(b"x"))
        server.stop()
        with pytest.raises(UnavailableError):
            await layer.read()
        assert layer.tell() == 0
