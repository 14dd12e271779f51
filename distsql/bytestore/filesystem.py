"""Bytes in a folder, one file per object, shared by any number of processes (of several machines if flock works)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from distsql.bytestore import filesystem_objects as objects
from distsql.bytestore.contract import Staged, StoredObject
from distsql.bytestore.filesystem_layout import Layout, exists
from distsql.bytestore.filesystem_reader import PIECE_BYTES, Source, read_cached
from distsql.bytestore.filesystem_writer import FilesystemWriter
from distsql.bytestore.stems import new_stem
from distsql.bytestore.threads import Threads

# What may be read in the event loop when it is cached: a thread hop costs more than to copy this much.
_INLINE_BYTES: Final = 64 * 1024

_WALK_BATCH: Final = 256


class FilesystemStore:
    """A `ByteStore` in the folder ``root``, with ``threads`` threads for what may wait for the disk."""

    minimum_chunk = 0
    exclusive = True

    def __init__(self, root: Path, *, threads: int = 16) -> None:
        self._layout = Layout(root.absolute())
        self._threads = Threads(threads, name="distsql-files")

    @property
    def url(self) -> str:
        return self._layout.root.as_uri()

    async def open(self) -> None:
        await self._threads.run(self._open)

    async def close(self) -> None:
        await self._threads.close()

    # -- writing --------------------------------------------------------------------------------------------------

    async def begin(self) -> Staged:
        return Staged(new_stem())

    async def claim(self, staged: Staged) -> Staged:
        return staged

    def writer(self, staged: Staged) -> FilesystemWriter:
        return FilesystemWriter(self._layout, self._threads, staged)

    def staged_stream(self, staged: Staged) -> AsyncIterator[bytes]:
        return self._pieces(Source(self._layout, staged.key, 0, staged.length, unfinished=True))

    async def abort(self, staged: Staged) -> None:
        await self._threads.run(objects.abort, self._layout, staged.key)

    async def settle(self, staged: Staged) -> None:
        """A finished file is all there is."""

    # -- reading --------------------------------------------------------------------------------------------------

    async def length(self, key: str) -> int | None:
        place = self._layout.place(key)
        if place is None:
            return None
        with self._layout.errors(key):
            try:
                return os.lstat(place.finished).st_size  # a hop takes longer
            except FileNotFoundError:
                self._layout.check_present()
                return None

    async def read(self, key: str, start: int, stop: int) -> bytes:
        place = objects.place_of(self._layout, key)
        if stop - start <= _INLINE_BYTES and (data := read_cached(place.finished, start, stop)) is not None:
            return data
        source = Source(self._layout, key, start, stop)
        pieces = [piece async for piece in self._pieces(source, limit=stop - start)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def stream(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        if stop - start <= _INLINE_BYTES:
            return self._one_piece(key, start, stop)
        return self._pieces(Source(self._layout, key, start, stop))

    def local_path(self, key: str) -> Path | None:
        place = self._layout.place(key)
        return Path(place.finished) if place is not None and exists(place.finished) else None

    async def redirect_url(self, key: str, *, expires_s: int) -> str | None:  # noqa: ARG002 - files have no address
        return None

    # -- tending --------------------------------------------------------------------------------------------------

    async def delete(self, key: str) -> None:
        await self._threads.run(objects.delete, self._layout, key)

    async def walk(self) -> AsyncIterator[StoredObject]:
        entries = self._layout.walk()
        try:
            while batch := await self._threads.run(self._batch, entries):
                for entry in batch:
                    yield entry
        finally:
            entries.close()

    # -- pieces of the above --------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._layout.make()
        except OSError as error:
            raise self._layout.meaning_of(error) from error
        # An object of no bytes goes all the way: locks, renames and fsync work here, and a full disk still serves
        # pulls. Killed in between, it is an orphan like any other.
        probe = Staged(new_stem())
        objects.complete(self._layout, probe)
        objects.abort(self._layout, probe.key)

    def _batch(self, entries: Iterator[StoredObject]) -> list[StoredObject]:
        try:
            return list(islice(entries, _WALK_BATCH))
        except OSError as error:
            raise self._layout.meaning_of(error) from error

    async def _one_piece(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        if piece := await self.read(key, start, stop):
            yield piece

    async def _pieces(self, source: Source, *, limit: int = PIECE_BYTES) -> AsyncIterator[bytes]:
        """All pieces: the first from a thread, where opening may wait; others too unless the kernel has them cached."""
        try:
            piece: bytes | None = await self._threads.run(source.first, limit)
            while piece:
                yield piece
                piece = source.next_cached(limit)
                if piece is None:
                    piece = await self._threads.run(source.next, limit)
                else:
                    await asyncio.sleep(0)  # a reader that awaits nothing else must not stop the event loop
        finally:
            source.close()
