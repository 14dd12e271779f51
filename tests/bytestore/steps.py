"""What tests of byte stores do again and again."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from distsql.bytestore.contract import ByteStore, Staged, StagedWriter, StoredObject


@asynccontextmanager
async def writing(store: ByteStore, staged: Staged) -> AsyncIterator[StagedWriter]:
    """A writer, for which the value was claimed."""
    async with store.writer(await store.claim(staged)) as writer:
        yield writer


async def append(store: ByteStore, staged: Staged, *pieces: bytes) -> Staged:
    """Adds pieces and flushes them."""
    async with writing(store, staged) as writer:
        for piece in pieces:
            await writer.write(piece)
        return await writer.flush()


async def complete(store: ByteStore, staged: Staged) -> Staged:
    """Makes what was flushed readable, as a process does that comes to it later."""
    async with writing(store, staged) as writer:
        return await writer.complete()


async def found(store: ByteStore, staged: Staged) -> list[StoredObject]:
    """Everything there is of the object."""
    return [item async for item in store.walk() if staged.key in (item.key, item.staged_key)]


def content_of(store: ByteStore, length: int = 300_000) -> bytes:
    """Random content that is a good piece for the store, whatever its smallest chunk."""
    return os.urandom(max(store.minimum_chunk, length))


async def all_of(stream: AsyncIterator[bytes]) -> bytes:
    """What a stream gives."""
    return b"".join([piece async for piece in stream])
