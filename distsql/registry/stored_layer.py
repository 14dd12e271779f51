"""A blob that is open for reading."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from distsql.bytestore.contract import ByteStore
from distsql.errors import BlobUnknownError
from distsql.oci.digest import Digest
from distsql.registry.context import Backend
from distsql.sql.layers import BlobRow
from distsql.values import ASGIApplication, ASGIScope, position

_REDIRECT_S: Final = 20 * 60

Promise = Callable[[Digest], Awaitable[bool]]


class StoredLayer:
    """`distsql.contract.Layer`: a blob whose bytes are in the store."""

    __slots__ = ("_backend", "_position", "_promise", "_row")

    def __init__(self, backend: Backend, row: BlobRow, *, promise: Promise | None = None) -> None:
        self._backend = backend
        self._promise = promise
        self._row = row
        self._position = 0

    @property
    def digest(self) -> Digest:
        """The blob's name."""
        return self._row.digest

    @property
    def length(self) -> int:
        """In bytes."""
        return self._row.length

    @property
    def created_at(self) -> datetime:
        """When the tenant first had this content."""
        return self._row.created_at

    async def promise(self) -> None:
        """Makes sure that a manifest may refer to it for the grace from now on. Raises `BlobUnknownError`."""
        if self._promise is not None and not await self._promise(self.digest):
            raise BlobUnknownError(
                f"The repository has no blob {self.digest} any more", detail={"digest": str(self.digest)}
            )

    @property
    def _store(self) -> ByteStore:
        return self._backend.store

    async def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes from the position; -1 reads all that remain into memory."""
        stop = self.length if size < 0 else min(self.length, self._position + size)
        if stop <= self._position:
            return b""
        whole = stop - self._position == self.length
        data = await (self._read_whole() if whole else self._store.read(self._row.store_key, self._position, stop))
        self._position = stop
        return data

    async def _read_whole(self) -> bytes:
        key, small = self._row.store_key, self._backend.small_objects
        data = small.find(key)
        if data is None:
            data = await self._store.read(key, 0, self.length)
            small.add(key, data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position."""
        wanted = position(offset, whence, current=self._position, end=self.length)
        if wanted < 0:
            raise ValueError(f"a position before the beginning: {wanted}")
        self._position = wanted
        return wanted

    def tell(self) -> int:
        """The position, in bytes."""
        return self._position

    def stream(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes ``start`` to ``stop`` (exclusive), in pieces."""
        return self._store.stream(self._row.store_key, start, stop)

    def local_path(self) -> Path | None:
        """The file with exactly the content, when there is one."""
        return self._store.local_path(self._row.store_key)

    async def redirect_url(self) -> str | None:
        """Where a client gets the content from the store itself, when it may."""
        if not self._backend.redirect:
            return None
        return await self._store.redirect_url(self._row.store_key, expires_s=_REDIRECT_S)

    def handler(self, request: ASGIScope) -> ASGIApplication:
        """An ASGI application that answers the GET or HEAD request with the content."""
        return self._backend.serve_layer(self, request)

    async def close(self) -> None:
        """Nothing is held open between reads."""

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        await self.close()
