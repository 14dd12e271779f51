"""Writing the bytes of one object of a `FilesystemStore`."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Final, Self, TypeVarTuple

from distsql.bytestore.contract import Buffer, Observer, Staged
from distsql.bytestore.filesystem_layout import Layout, sync_file, sync_folder
from distsql.bytestore.filesystem_objects import claim, finish, place_of
from distsql.bytestore.threads import Threads
from distsql.errors import StoreFullError, StoreUnavailableError

Ts = TypeVarTuple("Ts")

# Smaller pieces are gathered to this size before a thread writes them: a thread hop costs more than their copy.
_GATHER_BYTES: Final = 64 * 1024

# How much is written before the disk is asked to begin. With less than a layer, its fdatasync has hardly anything left
# to wait for: 0.1 ms instead of 3 for 4 MiB. Of 64 MiB it takes a third off write + fdatasync, as 8 MiB does.
_WRITEBACK_BYTES: Final = 1024 * 1024


class FilesystemWriter:
    """The `StagedWriter` of a `FilesystemStore`: thread hops are one to enter, one each to write much and to flush."""

    checkpoint_due = False
    is_newest = False

    def __init__(self, layout: Layout, threads: Threads, staged: Staged) -> None:
        self._layout = layout
        self._threads = threads
        self._staged = staged
        self._position = staged.length  # behind what was given to the operating system
        self._written_back = staged.length  # behind what the disk was asked to begin with
        self._gathered = bytearray()
        self._descriptor: int | None = None
        self._intact = True
        self._finished = False  # whether the locked file was at its finished path when we entered
        self._begun = False
        self._new_name = False  # whether the next flush has to make the file's name durable

    async def __aenter__(self) -> Self:
        try:
            await self._threads.run(self._enter)
        except BaseException:  # cancelled while the thread took the lock: nobody will call __aexit__
            self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._position != self._staged.length:
                await self._threads.run(self._cut_back)
        finally:
            self._close()

    async def write(self, *data: Buffer, observe: Observer | None = None) -> None:
        self._check_usable()
        pieces = deque(data)
        del data  # so that each piece is freed once it is written
        if len(self._gathered) + sum(map(_size, pieces)) > _GATHER_BYTES:
            await self._step(self._write, pieces, observe)
            return
        for piece in pieces:
            self._gathered += piece
            if observe is not None:
                observe(piece)

    async def flush(self) -> Staged:
        self._check_usable()
        if self._gathered or self._position != self._staged.length:
            await self._step(self._flush)
            self._staged = replace(self._staged, length=self._position)
        return self._staged

    async def checkpoint(self) -> Staged:
        return await self.flush()

    async def seal(self) -> Staged | None:
        return None

    async def complete(self) -> Staged:
        self._check_usable()
        await self._step(self._complete)
        self._staged = replace(self._staged, length=self._position)
        return self._staged

    # -- in a thread ----------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        with self._layout.errors(self._staged.key):
            place = place_of(self._layout, self._staged.key)
            self._descriptor, self._finished = claim(self._layout, place, create=self._staged.length == 0)
            size = os.fstat(self._descriptor).st_size
            if size < self._staged.length:
                raise self._layout.missing(self._staged.key)
            self.is_newest = size == self._staged.length and not self._finished

    def _begin(self) -> None:
        """What waits for the first byte, as until then the caller may find that ``staged`` isn't the newest value."""
        if self._finished:
            self._layout.take_back(place_of(self._layout, self._staged.key))
        descriptor = self._open_descriptor()
        if os.fstat(descriptor).st_size != self._staged.length:
            os.ftruncate(descriptor, self._staged.length)
        self._new_name = self._finished or self._staged.length == 0
        self._begun = True

    def _write(self, pieces: deque[Buffer], observe: Observer | None = None) -> None:
        try:
            with self._layout.errors(self._staged.key):
                if not self._begun:
                    self._begin()
                self._append(self._gathered)
                while pieces:
                    # Released here: a view that lives a moment longer keeps its owner from resizing the buffer.
                    with memoryview(pieces.popleft()) as whole, whole.cast("B") as piece:
                        if observe is not None:
                            observe(piece)
                        self._append(piece)
        except (StoreFullError, StoreUnavailableError):
            self._cut_back()  # a full disk gets its room back at once
            raise
        self._gathered.clear()

    def _flush(self) -> None:
        self._write(deque())
        with self._layout.errors(self._staged.key):
            descriptor = self._open_descriptor()
            sync_file(descriptor)
            if self._new_name:
                sync_folder(self._layout.staging)
                self._new_name = False
            if os.fstat(descriptor).st_nlink == 0:
                raise self._layout.missing(self._staged.key)  # aborted meanwhile

    def _complete(self) -> None:
        if self._gathered or self._position != self._staged.length:
            self._flush()
        with self._layout.errors(self._staged.key):
            place = place_of(self._layout, self._staged.key)
            finish(
                self._layout,
                place,
                self._open_descriptor(),
                self._position,
                finished=self._finished and not self._begun,
            )
        self._finished, self._begun = True, False

    def _append(self, data: bytearray | memoryview) -> None:
        descriptor = self._open_descriptor()
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                written = os.pwrite(descriptor, view[done:], self._position)
                done += written
                self._position += written
        if self._position - self._written_back >= _WRITEBACK_BYTES:
            self._begin_writeback(descriptor)

    def _begin_writeback(self, descriptor: int) -> None:
        """So that ``flush`` finds little left to wait for; pages that are dirty yet stay cached for the first pull."""
        if sys.platform == "linux":
            start, length = self._written_back, self._position - self._written_back
            with suppress(OSError):
                os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)
        self._written_back = self._position

    def _cut_back(self) -> None:
        """Gives the room of what was not flushed back. Should that fail, the next writer does it."""
        if self._begun:
            with suppress(OSError):
                os.ftruncate(self._open_descriptor(), self._staged.length)

    # -- state ----------------------------------------------------------------------------------------------------

    async def _step(self, work: Callable[[*Ts], None], *args: *Ts) -> None:
        """Runs a step that, failed or cancelled, leaves nobody knowing what of it reached the file.

        Trying a failed fdatasync again isn't possible either: the kernel takes lost pages for written ones.
        """
        self._intact = False
        await self._threads.run(work, *args)
        self._intact = True

    def _check_usable(self) -> None:
        if self._descriptor is None:
            raise StoreUnavailableError("this writer is not open: enter it with `async with`")
        if not self._intact:
            raise StoreUnavailableError("an earlier write failed: go on from the last flush, with a new writer")

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            raise StoreUnavailableError("this writer is closed")
        return self._descriptor

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # drops the lock
            self._descriptor = None


def _size(data: Buffer) -> int:
    return len(data) if isinstance(data, bytes) else memoryview(data).nbytes
