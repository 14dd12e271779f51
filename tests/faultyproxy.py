"""A proxy between us and an object store that fails on demand. What it forwards it doesn't touch."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_REQUEST = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) \S+ HTTP/1\.1\r\n")
_BODY = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>"


@dataclass
class FaultyProxy:
    """``fault`` is shown each request's head: a status and code answer it, None lets it through."""

    endpoint: str = ""
    fault: Callable[[bytes], tuple[int, str] | None] = lambda _head: None
    away: bool = False  # connections are closed at once
    silent: bool = False  # nothing is answered
    pause_s: float = 0  # before each piece of an answer
    piece: int = 65536  # bytes of an answer at once
    cut_answers_after: int | None = None  # bytes of an answer, then the connection breaks
    cut_requests_after: int | None = None
    cuts: int = 0  # how many connections may still be cut
    requests: int = 0
    open_connections: set[asyncio.StreamWriter] = field(default_factory=set)

    def reset(self) -> None:
        """Everything works again."""
        self.fault, self.away, self.silent, self.cuts = (lambda _head: None), False, False, 0
        self.cut_answers_after = self.cut_requests_after = None
        self.pause_s, self.piece = 0, 65536

    def break_off(self) -> None:
        """Breaks connections that are open, kept ones among them."""
        for writer in list(self.open_connections):
            writer.transport.abort()

    async def serve(self, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.away:
            writer.transport.abort()
            return
        inner_reader, inner_writer = await asyncio.open_connection(host, port)
        self.open_connections |= {writer, inner_writer}
        ways = (
            asyncio.create_task(self._requests(reader, writer, inner_writer)),
            asyncio.create_task(self._answers(inner_reader, writer)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for each in (writer, inner_writer):
                self.open_connections.discard(each)
                each.transport.abort()

    async def _requests(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, onward: asyncio.StreamWriter
    ) -> None:
        passed = 0
        while data := await reader.read(65536):
            if _REQUEST.match(data):
                self.requests += 1
                if self.away:
                    return
                if answer := self.fault(data):
                    status, code = answer
                    body = _BODY.format(code=code).encode()
                    back.write(
                        b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body))
                    )
                    back.write(b"" if data.startswith(b"HEAD") else body)
                    await back.drain()
                    # The rest of the request is read, or the answer would be lost with the connection.
                    with contextlib.suppress(TimeoutError):
                        while await asyncio.wait_for(reader.read(65536), 0.2):
                            pass
                    return
            passed += len(data)
            if self._cut(passed, self.cut_requests_after):
                return
            if not self.silent:
                onward.write(data)
                await onward.drain()

    async def _answers(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(self.piece):
            passed += len(data)
            if self._cut(passed, self.cut_answers_after):
                return
            await asyncio.sleep(self.pause_s)
            while self.silent:
                await asyncio.sleep(0.05)
            back.write(data)
            await back.drain()

    def _cut(self, passed: int, limit: int | None) -> bool:
        if limit is None or passed <= limit or self.cuts <= 0:
            return False
        self.cuts -= 1
        return True


@asynccontextmanager
async def faulty_proxy(endpoint: str) -> AsyncIterator[FaultyProxy]:
    """One in front of the server at the endpoint."""
    parts = urlsplit(endpoint)
    proxy = FaultyProxy()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await proxy.serve(parts.hostname or "", parts.port or 80, reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.break_off()
        await asyncio.sleep(0)


def one_in(count: int, status: int = 500, code: str = "InternalError") -> Callable[[bytes], tuple[int, str] | None]:
    """A fault of every so many requests."""
    seen = 0

    def fault(_head: bytes) -> tuple[int, str] | None:
        nonlocal seen
        seen += 1
        return (status, code) if seen % count == 0 else None

    return fault
