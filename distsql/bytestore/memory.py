"""Bytes in memory, for tests: loses what a crash would lose, so that a forgotten ``flush`` shows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from distsql.bytestore.contract import Buffer, Observer, Staged, StoredObject
from distsql.bytestore.stems import new_stem
from distsql.errors import BytesMissingError, StoreUnavailableError, UploadBusyError

_PIECE_BYTES: Final = 256 * 1024


@dataclass(slots=True)
class _Content:
    data: bytearray = field(default_factory=bytearray)
    modified_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    writer: MemoryWriter | None = None


class MemoryStore:
    """A `ByteStore` of one process that is gone with it."""

    url = "memory:"
    minimum_chunk = 0
    exclusive = True

    def __init__(self) -> None:
        self._finished: dict[str, _Content] = {}
        self._unfinished: dict[str, _Content] = {}

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        self._finished.clear()
        self._unfinished.clear()

    async def begin(self) -> Staged:
        return Staged(new_stem())

    async def claim(self, staged: Staged) -> Staged:
        return staged

    def writer(self, staged: Staged) -> MemoryWriter:
        return MemoryWriter(self, staged)

    async def staged_stream(self, staged: Staged) -> AsyncIterator[bytes]:
        content = self._finished.get(staged.key) or self._unfinished.get(staged.key) or _Content()
        for piece in _pieces(content, staged.key, 0, staged.length):
            yield piece

    async def abort(self, staged: Staged) -> None:
        self._finished.pop(staged.key, None)
        self._unfinished.pop(staged.key, None)

    async def settle(self, staged: Staged) -> None:
        """Nothing was needed besides."""

    async def length(self, key: str) -> int | None:
        content = self._finished.get(key)
        return None if content is None else len(content.data)

    async def read(self, key: str, start: int, stop: int) -> bytes:
        return b"".join(_pieces(self._finished.get(key), key, start, stop))

    async def stream(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        for piece in _pieces(self._finished.get(key), key, start, stop):
            yield piece

    def local_path(self, key: str) -> Path | None:  # noqa: ARG002 - there are no files
        return None

    async def redirect_url(self, key: str, *, expires_s: int) -> str | None:  # noqa: ARG002 - nor addresses
        return None

    async def delete(self, key: str) -> None:
        self._finished.pop(key, None)

    async def walk(self) -> AsyncIterator[StoredObject]:
        for contents, complete in ((self._unfinished, False), (self._finished, True)):
            for key, content in list(contents.items()):
                yield StoredObject(key, len(content.data), content.modified_at, complete)

    def _claim(self, staged: Staged) -> _Content:
        """The unfinished content, which nobody writes to; finished content is taken back, new content is empty."""
        content = self._finished.get(staged.key) or self._unfinished.get(staged.key) or _Content()
        if content.writer is not None:
            raise UploadBusyError(f"another request is writing to {staged.key}")
        if len(content.data) < staged.length:
            raise _missing(staged.key, staged.length)
        return content

    def _enter(self, staged: Staged, writer: MemoryWriter) -> _Content:
        content = self._claim(staged)
        content.writer = writer
        if staged.key not in self._finished:
            self._unfinished[staged.key] = content
        return content

    def _take_back(self, staged: Staged, content: _Content) -> None:
        del content.data[staged.length :]
        if self._finished.get(staged.key) is content:
            self._unfinished[staged.key] = self._finished.pop(staged.key)

    def _finish(self, staged: Staged, content: _Content) -> None:
        if self._finished.get(staged.key) is content and len(content.data) != staged.length:
            raise _missing(staged.key, staged.length)
        del content.data[staged.length :]
        self._unfinished.pop(staged.key, None)
        self._finished[staged.key] = content


class MemoryWriter:
    """The `StagedWriter` of a `MemoryStore`."""

    checkpoint_due = False

    def __init__(self, store: MemoryStore, staged: Staged) -> None:
        self._store = store
        self._staged = staged
        self._content: _Content | None = None
        self._begun = False

    async def __aenter__(self) -> Self:
        self._content = self._store._enter(self._staged, self)  # noqa: SLF001 - the two are one thing
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        content = self._held()
        if self._begun:
            del content.data[self._staged.length :]
        content.writer = self._content = None

    @property
    def is_newest(self) -> bool:
        content = self._held()
        is_unfinished = self._store._unfinished.get(self._staged.key) is content  # noqa: SLF001
        return is_unfinished and len(content.data) == self._staged.length

    async def write(self, *data: Buffer, observe: Observer | None = None) -> None:
        content = self._held()
        for piece in data:
            if observe is not None:
                observe(piece)
            if not self._begun and len(piece) > 0:
                self._store._take_back(self._staged, content)  # noqa: SLF001
                self._begun = True
            content.data += piece
        content.modified_at = datetime.now(UTC)

    async def flush(self) -> Staged:
        content = self._held()
        if not self._begun:
            return self._staged
        if self._store._unfinished.get(self._staged.key) is not content:  # noqa: SLF001
            raise _missing(self._staged.key, len(content.data))
        self._staged = replace(self._staged, length=len(content.data))
        return self._staged

    async def checkpoint(self) -> Staged:
        return await self.flush()

    async def seal(self) -> Staged | None:
        return None

    async def complete(self) -> Staged:
        staged = await self.flush()
        self._store._finish(staged, self._held())  # noqa: SLF001
        self._begun = False
        return staged

    def _held(self) -> _Content:
        if self._content is None:
            raise StoreUnavailableError("this writer is not open: enter it with `async with`")
        return self._content


def _pieces(content: _Content | None, key: str, start: int, stop: int) -> Iterator[bytes]:
    if content is None or len(content.data) < stop:
        raise _missing(key, stop)
    for at in range(start, stop, _PIECE_BYTES):
        yield bytes(content.data[at : min(at + _PIECE_BYTES, stop)])


def _missing(key: str, length: int) -> BytesMissingError:
    return BytesMissingError(f"the byte store has no {length} bytes under {key}")
