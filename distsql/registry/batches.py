"""The bytes of an upload on their way into the store: gathered, then hashed and written while the next arrive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from distsql.bytestore.contract import Staged, StagedWriter

if TYPE_CHECKING:
    from hashlib import _Hash

# Smaller pieces are gathered to this size before they are stored; one that has it already is stored as it is, uncopied.
# Batches are hashed and written in a thread while the next one arrives, so two are in memory. Smaller ones cost more
# thread switches, larger ones only memory.
BATCH: Final = 256 * 1024


class BatchedWriter:
    """Writes to one object of the store, in the background. Opened and closed by its owner.

    A ``write`` that is cancelled has taken its bytes. After any other failure there is nothing to do but to close it:
    nobody knows then what of the bytes reached the store.
    """

    def __init__(self, writer: StagedWriter) -> None:
        self.hash: _Hash | None = None  # of everything, when the owner knows it from the beginning
        self._writer = writer
        self._gathered: bytes | bytearray = bytearray()
        self._storing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Shuts other writers out."""
        await self._writer.__aenter__()

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes the data; errors of earlier data come with it."""
        if not self._gathered and isinstance(data, bytes) and len(data) >= BATCH:
            self._gathered = data  # others may be changed by the caller
        else:
            self._gathered += data
        if len(self._gathered) >= BATCH:
            await self._store_earlier()
            self._storing = asyncio.create_task(self._store(self._take_gathered()))

    async def settle(self) -> None:
        """Everything is hashed, and with the store's writer, when this returns; durable it is not yet."""
        await self._store_earlier()
        if self._gathered:
            await self._store(self._take_gathered())

    async def flush(self) -> Staged:
        """Makes everything durable."""
        await self.settle()
        return await self._writer.flush()

    async def complete(self) -> Staged:
        """Makes everything durable, and the object readable."""
        await self.settle()
        return await self._writer.complete()

    async def close(self) -> None:
        """Lets other writers in; what is not durable is forgotten. Goes on to its end also when it is cancelled."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._storing is not None:
            self._storing.cancel()
            await asyncio.wait([self._storing])
            self._storing.cancelled() or self._storing.exception()  # asked for, or asyncio complains
        await self._writer.__aexit__(None, None, None)

    async def _store_earlier(self) -> None:
        """Waits for the batch in the background, which goes on when the caller is cancelled here."""
        if self._storing is not None:
            await asyncio.wait([self._storing])
            storing, self._storing = self._storing, None
            storing.result()

    async def _store(self, batch: bytes | bytearray) -> None:
        await self._writer.write(batch, observe=None if self.hash is None else self.hash.update)

    def _take_gathered(self) -> bytes | bytearray:
        gathered, self._gathered = self._gathered, bytearray()
        return gathered
