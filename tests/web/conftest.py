"""The web server in this process, in front of small applications, and clients that write what they like."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from distsql.values import ASGIApplication, ASGIReceive, ASGIScope, ASGISend
from distsql.web.connections import Patience
from distsql.web.server import Server
from distsql.web.shares import Shares

Handle = Callable[[ASGIScope, ASGIReceive, ASGISend], Awaitable[None]]


def application(handle: Handle) -> ASGIApplication:
    """With a life."""

    async def answer(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        if scope["type"] == "http":
            await handle(scope, receive, send)
            return
        for kind in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{kind}"
            await send({"type": f"lifespan.{kind}.complete"})

    return answer


@dataclass
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *lines: str, body: bytes = b"") -> None:
        self.writer.write("\r\n".join((*lines, "", "")).encode() + body)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(10):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.removesuffix("\r\n\r\n").split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        return int(first.split()[1]), {name: value for name, _, value in pairs}

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """One that has a length."""
        status, headers = await self.head()
        async with asyncio.timeout(10):
            return status, headers, await self.reader.readexactly(int(headers["content-length"]))

    async def rest(self) -> bytes:
        """Everything until the server closes the connection."""
        return await asyncio.wait_for(self.reader.read(), 10)


@dataclass
class Running:
    """The server, and where it is."""

    server: Server
    address: tuple[str, int]
    stack: AsyncExitStack

    async def client(self) -> Client:
        reader, writer = await asyncio.open_connection(*self.address)
        self.stack.callback(writer.close)
        return Client(reader, writer)


Start = Callable[..., Awaitable[Running]]


@asynccontextmanager
async def running(handle: Handle, *, patience: Patience | None = None, stop_s: float = 5) -> AsyncIterator[Running]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)
    server = Server(application(handle), listener, shares=Shares([0], 0), stop_s=stop_s, patience=patience)
    task = asyncio.create_task(server.run())
    async with AsyncExitStack() as stack:
        yield Running(server, listener.getsockname(), stack)
    server.stop()
    await asyncio.wait_for(task, 10)


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts servers, which end with the test."""
    async with AsyncExitStack() as stack:

        async def start(handle: Handle, **options: object) -> Running:
            return await stack.enter_async_context(running(handle, **options))  # type: ignore[arg-type]

        yield start


async def answer(send: ASGISend, body: bytes = b"", *, status: int = 200) -> None:
    """One of known length."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


async def whole_body(receive: ASGIReceive) -> bytes:
    pieces, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionAbortedError(f"after {len(pieces)} bytes")
        pieces += message["body"]
        more = message["more_body"]
    return bytes(pieces)


async def echo(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
    """Says what came."""
    body = await whole_body(receive)
    told = f"{scope['method']} {scope['raw_path'].decode()} {scope['path']} {scope['query_string'].decode()} "
    await answer(send, told.encode() + body)
