"""A blob of a registry that is open for reading: one request as long as it is read from the front to the back."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import datetime
from types import TracebackType
from typing import Final, Self

import httpx

from distsql.errors import BlobUnknownError, BytesMissingError, UnavailableError, UnsupportedError
from distsql.oci.digest import Digest
from distsql.remote.connection import Connection
from distsql.values import ASGIApplication, ASGIReceive, ASGIScope, ASGISend, position

# What an answer tells of the content, and what a request may ask of it.
_TOLD: Final = (
    "content-type",
    "content-length",
    "content-range",
    "accept-ranges",
    "docker-content-digest",
    "etag",
    "x-content-type-options",
    "content-security-policy",
)
_ASKED: Final = frozenset({b"range", b"if-range", b"if-none-match"})
_PARTIAL: Final = 206


class RemoteLayer:
    """`distsql.contract.Layer` over HTTP."""

    __slots__ = (
        "_answer",
        "_connection",
        "_created_at",
        "_digest",
        "_length",
        "_path",
        "_pieces",
        "_position",
        "_rest",
    )

    def __init__(
        self, connection: Connection, path: str, digest: Digest, length: int, created_at: datetime | None = None
    ) -> None:
        self._connection = connection
        self._path = path
        self._digest = digest
        self._length = length
        self._created_at = created_at
        self._position = 0
        # The answer that is being read, what came of it and wasn't asked for yet, and what is to come.
        self._answer: httpx.Response | None = None
        self._rest = b""
        self._pieces: AsyncIterator[bytes] | None = None

    @property
    def digest(self) -> Digest:
        """The blob's name."""
        return self._digest

    @property
    def length(self) -> int:
        """In bytes."""
        return self._length

    @property
    def created_at(self) -> datetime:
        """When the tenant first had this content; `UnsupportedError` when the registry is no distsql."""
        if self._created_at is None:
            raise UnsupportedError("This registry is no distsql: it doesn't say since when it has a blob")
        return self._created_at

    # -- reading ------------------------------------------------------------------------------------------------------

    async def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes from the position; after an error, the next read asks for the rest again."""
        left = max(self._length - self._position, 0)
        wanted = left if size < 0 else min(size, left)
        if wanted == 0:
            return b""
        try:
            data = await self._take(wanted)
        except BaseException:
            await self.close()
            raise
        self._position += len(data)
        if self._position == self._length:
            await self.close()
        return data

    async def _take(self, wanted: int) -> bytes:
        pieces = self._pieces or await self._open()
        data = bytearray(self._rest)
        with self._connection.answering():
            while len(data) < wanted:
                piece = await anext(pieces, b"")
                if not piece:
                    raise UnavailableError(f"{self._path} ended before its {self._length} bytes")
                data += piece
        self._rest = bytes(data[wanted:])
        return bytes(data[:wanted])

    async def _open(self) -> AsyncIterator[bytes]:
        """The content from the position on."""
        await self.close()
        headers = {"range": f"bytes={self._position}-"} if self._position else {}
        try:
            self._answer = await self._connection.open(self._path, headers=headers)
        except BlobUnknownError as error:
            raise BytesMissingError(error.message, detail=error.detail) from error
        if headers and self._answer.status_code != _PARTIAL:
            raise UnsupportedError(f"{self._path}: the registry doesn't serve ranges")
        self._pieces = self._answer.aiter_raw()
        return self._pieces

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position."""
        wanted = position(offset, whence, current=self._position, end=self._length)
        if wanted < 0:
            raise ValueError(f"a position before the beginning: {wanted}")
        if wanted != self._position:
            self._position = wanted
            self._rest, self._pieces = b"", None
        return wanted

    def tell(self) -> int:
        """The position, in bytes."""
        return self._position

    # -- serving ------------------------------------------------------------------------------------------------------

    def handler(self, request: ASGIScope) -> ASGIApplication:
        """An ASGI application that passes the request's ranges and conditions on, and the answer through."""
        asked = {name.decode(): value.decode("latin-1") for name, value in request["headers"] if name in _ASKED}

        async def serve(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
            del receive
            answer = await self._connection.open(self._path, method=scope["method"], headers=asked)
            try:
                found = [(name, answer.headers[name]) for name in _TOLD if name in answer.headers]
                told = [(name.encode(), value.encode("latin-1")) for name, value in found]
                await send({"type": "http.response.start", "status": answer.status_code, "headers": told})
                with self._connection.answering():
                    async for piece in answer.aiter_raw():
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
            finally:
                await answer.aclose()
            await send({"type": "http.response.body", "body": b""})

        return serve

    async def close(self) -> None:
        """Lets go of the answer that is being read."""
        answer, self._answer = self._answer, None
        self._rest, self._pieces = b"", None
        if answer is not None:
            await answer.aclose()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        await self.close()
