"""What applications answer, and what clients get of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

import pytest

from distsql.values import ASGIMessage, ASGIReceive, ASGIScope, ASGISend
from distsql.web import connections
from tests.web.conftest import Handle, Start, answer, whole_body

HOST = "Host: registry.test"


def saying(*messages: ASGIMessage) -> Handle:
    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        for message in messages:
            await send(message)

    return handle


def opening(*headers: tuple[bytes, bytes], status: int = 200) -> ASGIMessage:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def piece(body: bytes, *, more: bool = False) -> ASGIMessage:
    return {"type": "http.response.body", "body": body, "more_body": more}


LENGTH_5 = (b"content-length", b"5")
STREAM = (opening(), piece(b"hel", more=True), piece(b"", more=True), piece(b"lo"))


async def test_an_answer_of_unknown_length(start: Start) -> None:
    """In chunks; to a client that knows none, until the connection ends; to HEAD nothing of it."""
    running = await start(saying(*STREAM))
    client = await running.client()
    await client.send("GET / HTTP/1.1", HOST)
    assert (await client.head())[1]["transfer-encoding"] == "chunked"
    assert await client.reader.readexactly(20) == b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    await client.send("HEAD / HTTP/1.1", HOST)
    assert (await client.head())[0] == 200
    await client.send("GET / HTTP/1.0", HOST, "Connection: keep-alive")
    headers = (await client.head())[1]
    assert headers["connection"] == "close"
    assert "transfer-encoding" not in headers
    assert await client.rest() == b"hello"


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body(start: Start, status: int) -> None:
    client = await (await start(saying(opening(status=status), piece(b"")))).client()
    for _ in range(2):
        await client.send("GET / HTTP/1.1", HOST)
        assert (await client.head())[0] == status


@pytest.mark.parametrize(
    "messages",
    [
        (opening(LENGTH_5), piece(b"hel")),
        (opening(LENGTH_5), piece(b"hello!", more=True)),
        (opening(LENGTH_5), piece(b"hel", more=True)),
    ],
    ids=["less", "more", "no end"],
)
async def test_an_answer_of_another_length_is_cut_off(start: Start, messages: Iterable[ASGIMessage]) -> None:
    """A client that gets what it was promised must be able to trust that it was all."""
    client = await (await start(saying(*messages))).client()
    await client.send("GET / HTTP/1.1", HOST)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        [await client.answer(), await client.reader.readexactly(1)]


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb"])
async def test_a_header_is_one_line(start: Start, value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever text gets into one: nobody can write headers of their own through it."""
    client = await (await start(saying(opening((b"location", value), LENGTH_5), piece(b"hello")))).client()
    await client.send("GET / HTTP/1.1", HOST)
    status, headers, _ = await client.answer()
    assert (status, "location" in headers) == (500, False)
    assert "line of its own" in caplog.text


async def test_a_failure_is_500_and_in_the_log(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        raise ValueError("surprise")

    client = await (await start(handle)).client()
    await client.send("GET / HTTP/1.1", HOST)
    assert (await client.answer())[0] == 500
    assert "surprise" in caplog.text


async def test_an_answer_before_the_body_has_come(start: Start) -> None:
    """The client hears it, although it still sends; the connection isn't used again."""

    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        await answer(send, b"enough", status=413)

    client = await (await start(handle)).client()
    await client.send("PUT / HTTP/1.1", HOST, "Content-Length: 1000000", body=b"x" * 100_000)
    status, headers, body = await client.answer()
    assert (status, headers["connection"], body) == (413, "close", b"enough")
    client.writer.write(b"x" * 500_000)
    assert await client.rest() == b""


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Whether clients count as being on this machine."""
    made = connections.Connection.connection_made

    def connection_made(self: connections.Connection, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        self._is_near = request.param

    monkeypatch.setattr(connections.Connection, "connection_made", connection_made)


def from_file(path: Path, start: int, stop: int) -> Handle:
    length = (b"content-length", b"%d" % (stop - start))
    whole = start == 0 and stop == path.stat().st_size
    part = {} if whole else {"offset": start, "count": stop - start}
    return saying(opening(length), {"type": "http.response.pathsend", "path": str(path), **part})


@pytest.mark.parametrize("near", [True, False], indirect=True)
@pytest.mark.parametrize(("first", "last"), [(0, 10_000_000), (1000, 9_000_000), (5, 6)])
async def test_files(start: Start, tmp_path: Path, near: None, first: int, last: int) -> None:
    """Whole or in part, behind an answer that is still on its way, to a client that takes its time."""
    path = tmp_path / "file"
    path.write_bytes(content := bytes(range(250)) * 40_000)
    client = await (await start(from_file(path, first, last))).client()
    for _ in range(3):
        await client.send("GET / HTTP/1.1", HOST)
    await asyncio.sleep(0.1)
    for _ in range(3):
        assert (await client.answer())[2] == content[first:last]
    await client.send("HEAD / HTTP/1.1", HOST)
    assert (await client.head())[1]["content-length"] == str(last - first)


@pytest.mark.parametrize("near", [True, False], indirect=True)
async def test_a_file_that_ends_early_is_cut_off(start: Start, tmp_path: Path, near: None) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    handle = from_file(path, 0, 100)
    path.write_bytes(b"x" * 10)
    client = await (await start(handle)).client()
    await client.send("GET / HTTP/1.1", HOST)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await client.answer()


@pytest.mark.parametrize("near", [True, False], indirect=True)
async def test_a_client_that_leaves_in_the_middle(
    start: Start, tmp_path: Path, near: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a file and of a stream: whoever sends it hears so, and nobody is told of a failure."""
    path, told = tmp_path / "file", asyncio.Event()
    path.write_bytes(b"x" * 50_000_000)

    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        try:
            if scope["path"] == "/file":
                await from_file(path, 0, 50_000_000)(scope, receive, send)
            else:
                await send(opening())
                while True:
                    await send(piece(b"x" * 100_000, more=True))
        except ConnectionError:
            told.set()
            raise

    running = await start(handle)
    for target in ("/file", "/stream"):
        client = await running.client()
        await client.send(f"GET {target} HTTP/1.1", HOST)
        await client.head()
        client.writer.transport.abort()
        await asyncio.wait_for(told.wait(), 5)
        told.clear()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_who_waits_for_the_client_to_leave_hears_of_it(start: Start) -> None:
    gone = asyncio.Event()

    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        assert await whole_body(receive) == b""
        assert (await receive())["type"] == "http.disconnect"
        gone.set()

    client = await (await start(handle)).client()
    await client.send("GET / HTTP/1.1", HOST)
    await asyncio.sleep(0.1)
    client.writer.close()
    await asyncio.wait_for(gone.wait(), 5)
