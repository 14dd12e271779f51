"""The bytes of an upload on their way into the store: gathered, then hashed and written while the next arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from distsql.bytestore.contract import Buffer, Staged, StagedWriter

if TYPE_CHECKING:
    from hashlib import _Hash

# What is stored at once. A thread is woken for each batch, and is woken late: with 1 MiB instead of 256 KiB, uploads go
# a fifth faster and take a tenth less CPU. More gains nothing.
_LARGEST: Final = 1024 * 1024
BATCH: Final = 256 * 1024
"""The smallest batch."""

# All uploads of a `serve` together gather so much, and store as much at the same time: where there are many, each has
# smaller batches.
_GATHERED: Final = 4 * 1024 * 1024

# A piece of this size is passed on as it is, smaller ones are put together: a thread's steps cost more than their copy.
_UNCOPIED: Final = 64 * 1024


class BatchMemory:
    """What the uploads of one process may gather, of ``processes`` that share the memory."""

    def __init__(self, *, processes: int = 1) -> None:
        self.writers = 0
        self._most = _GATHERED // processes

    @property
    def batch(self) -> int:
        """Bytes of a batch, with as many writers as there are now."""
        return max(BATCH, min(_LARGEST, self._most // max(1, self.writers)))


class BatchedWriter:
    """Writes to one object of the store, in the background. Opened and closed by its owner.

    A ``write`` that is cancelled has taken its bytes. After any other failure there is nothing to do but to close it:
    nobody knows then what of the bytes reached the store.
    """

    def __init__(self, writer: StagedWriter, memory: BatchMemory) -> None:
        self.hash: _Hash | None = None  # of everything, when the owner knows it from the beginning
        self._writer = writer
        self._memory = memory
        self._gathered: list[bytes | bytearray] = []
        self._length = 0  # of what is gathered
        self._storing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Shuts other writers out."""
        await self._writer.__aenter__()
        self._memory.writers += 1

    @property
    def is_newest(self) -> bool:
        """Whether the store shows that nobody else has changed the object since."""
        return self._writer.is_newest

    async def write(self, data: Buffer) -> None:
        """Takes the data; errors of earlier data come with it."""
        if isinstance(data, bytes) and len(data) >= _UNCOPIED:
            self._gathered.append(data)  # what is not bytes may be changed by the caller
        elif self._gathered and isinstance(last := self._gathered[-1], bytearray):
            last += data
        else:
            self._gathered.append(bytearray(data))
        self._length += len(data) if isinstance(data, bytes) else memoryview(data).nbytes
        if self._length >= self._memory.batch:
            await self._store_earlier()
            self._storing = asyncio.create_task(self._store())

    async def settle(self) -> None:
        """Everything is hashed, and with the store's writer, when this returns; durable it is not yet."""
        await self._store_earlier()
        if self._gathered:
            await self._store()

    async def flush(self) -> Staged:
        """Makes everything durable."""
        await self.settle()
        return await self._writer.flush()

    @property
    def checkpoint_due(self) -> bool:
        """Whether the catalogue should remember what there is before more is written."""
        return self._writer.checkpoint_due

    async def checkpoint(self) -> Staged:
        """What is durable, in the middle of a stream."""
        await self._store_earlier()
        return await self._writer.checkpoint()

    async def seal(self) -> Staged | None:
        """Makes everything durable in the form in which it is completed, where the store needs that remembered."""
        await self.settle()
        return await self._writer.seal()

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
        self._memory.writers -= 1
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

    def _store(self) -> Coroutine[Any, Any, None]:
        """Hands over what is gathered, and keeps nothing of it."""
        batch, self._gathered, self._length = self._gathered, [], 0
        return self._writer.write(*batch, observe=None if self.hash is None else self.hash.update)
