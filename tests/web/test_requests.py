"""What clients may write, and what becomes of it (RFC 9110, RFC 9112)."""

from __future__ import annotations

import asyncio

import pytest

from distsql.values import ASGIReceive, ASGIScope, ASGISend
from tests.web.conftest import Client, Start, answer, echo, whole_body

HOST = "Host: registry.test"


async def test_a_body_of_known_length(start: Start) -> None:
    """In one piece with its head, in many behind it, and behind it another request."""
    client = await (await start(echo)).client()
    large = bytes(range(256)) * 8192
    for body in (b"", b"hello", large):
        await client.send("PUT /a HTTP/1.1", HOST, f"Content-Length: {len(body)}", body=body)
        assert (await client.answer())[2] == b"PUT /a /a  " + body
    await client.send("PUT /a HTTP/1.1", HOST, f"Content-Length: {len(large)}")
    for at in range(0, len(large), 300_000):
        client.writer.write(large[at : at + 300_000])
        await client.writer.drain()
        await asyncio.sleep(0)
    await client.send("GET /b?c=d HTTP/1.1", HOST)
    assert (await client.answer())[2] == b"PUT /a /a  " + large
    assert (await client.answer())[2] == b"GET /b /b c=d "


async def test_a_large_body_comes_in_few_pieces(start: Start) -> None:
    """Although its client sends many: the event loop is woken for more than that."""
    pieces: list[int] = []

    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        while (message := await receive())["more_body"]:
            pieces.append(len(message["body"]))
        await answer(send, b"all")

    client = await (await start(handle)).client()
    piece, number = bytes(32 * 1024), 64
    for _ in range(2):
        pieces.clear()
        await client.send("PUT /a HTTP/1.1", HOST, f"Content-Length: {number * len(piece)}")
        for _ in range(number):
            client.writer.write(piece)
            await client.writer.drain()
            await asyncio.sleep(0.001)
        assert (await client.answer())[2] == b"all"
        assert len(pieces) < number / 2


@pytest.mark.parametrize("leaves", [False, True])
async def test_what_a_slow_client_has_sent_is_heard(start: Start, leaves: bool) -> None:
    """Of a large body too, whether more comes or the client goes away."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        while (message := await receive())["type"] == "http.request":
            heard.put_nowait(message["body"])
        heard.put_nowait(b"gone")

    client = await (await start(handle)).client()
    await client.send("PUT /a HTTP/1.1", HOST, "Content-Length: 10000000", body=bytes(1000))
    assert await asyncio.wait_for(heard.get(), 5) == bytes(1000)
    for _ in range(2):
        client.writer.write(bytes(5000))
        if leaves:
            break
        assert await asyncio.wait_for(heard.get(), 5) == bytes(5000)
    client.writer.close()
    if leaves:
        assert await asyncio.wait_for(heard.get(), 5) == bytes(5000)
    assert await asyncio.wait_for(heard.get(), 5) == b"gone"


async def test_a_body_in_chunks_and_its_trailer(start: Start) -> None:
    """Headers behind the body are nobody's: they may not become those of the request."""
    seen: list[list[tuple[bytes, bytes]]] = []

    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        body = await whole_body(receive)
        seen.append(scope["headers"])
        await answer(send, body)

    client = await (await start(handle)).client()
    trailer = b"Authorization: Bearer x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
    chunked = "Transfer-Encoding: chunked"
    await client.send("PUT /a HTTP/1.1", HOST, chunked, body=b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\n" + trailer)
    assert (await client.answer())[2] == b"hello!"
    assert [name for name, _ in seen[0]] == [b"host", b"transfer-encoding"]
    await client.send("PUT /a HTTP/1.1", HOST, chunked, body=b"0\r\n\r\n")
    assert (await client.answer())[2] == b""


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a%2Fb%20c", b"/a%2Fb%20c /a/b c "),
        ("/a?b?c=%20", b"/a /a b?c=%20"),
        ("/%ff", "/%ff /\ufffd ".encode()),
        ("http://other.test/v2/a?b=c", b"/v2/a /v2/a b=c"),
        ("http://other.test", b"/ / "),
    ],
)
async def test_targets(start: Start, target: str, expected: bytes) -> None:
    """The path comes as it was written too: an escaped slash divides nothing."""
    client = await (await start(echo)).client()
    await client.send(f"GET {target} HTTP/1.1", HOST)
    assert (await client.answer())[2] == b"GET " + expected + b" "


@pytest.mark.parametrize(
    "lines",
    [
        ("GET /a HTTP/1.1", "Host : x"),
        ("GET /a HTTP/1.1", "X: a\0b"),
        ("GET /a b HTTP/1.1", HOST),
        ("PUT /a HTTP/1.1", "Content-Length: 5", "Content-Length: 6"),
        ("PUT /a HTTP/1.1", "Content-Length: +5"),
        ("PUT /a HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked"),
        ("PUT /a HTTP/1.1", "Transfer-Encoding: chunked, identity"),
        ("PRI * HTTP/2.0",),
    ],
)
async def test_what_can_be_read_in_two_ways_is_not_read(start: Start, lines: tuple[str, ...]) -> None:
    """What a proxy in front might understand otherwise ends the connection: 400."""
    client = await (await start(echo)).client()
    await client.send(*lines, body=b"hello")
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert await client.rest() == b""


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /" + b"a" * 200_000,
        b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000,
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 102,
    ],
)
async def test_heads_without_end(start: Start, endless: bytes) -> None:
    client = await (await start(echo)).client()
    client.writer.write(endless)
    assert (await client.answer())[0] == 431
    assert await client.rest() == b""


@pytest.mark.parametrize(
    "endless", [b"0\r\nX: " + b"a" * 300_000, b"0\r\n" + b"X: a\r\n" * 50_000, b"5;" + b"x" * 300_000]
)
async def test_what_stands_around_chunks_is_bounded(start: Start, endless: bytes) -> None:
    """A trailer, or an extension of a chunk: whoever waits for the body hears that no more will come."""
    lost = asyncio.Event()

    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        with pytest.raises(ConnectionAbortedError):
            await whole_body(receive)
        lost.set()
        await answer(send, b"short", status=400)

    client = await (await start(handle)).client()
    await client.send("PUT /a HTTP/1.1", HOST, "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n" + endless)
    await asyncio.wait_for(lost.wait(), 5)
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (400, "close")


async def test_an_upgrade_is_not_taken(start: Start) -> None:
    """The request is answered in the language in which it was asked, and what follows isn't looked at."""
    client = await (await start(echo)).client()
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    await client.send("GET /a HTTP/1.1", HOST, *upgrade, body=b"GET /b HTTP/1.1\r\n\r\n")
    status, headers, body = await client.answer()
    assert (status, headers["connection"], body) == (200, "close", b"GET /a /a  ")
    assert await client.rest() == b""


async def test_continue_is_said_when_the_body_is_wanted(start: Start) -> None:
    """And not where the answer is clear without it (RFC 9110, 10.1.1)."""

    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        if scope["path"] == "/refused":
            await answer(send, status=403)
        else:
            await echo(scope, receive, send)

    running = await start(handle)
    client = await running.client()
    head = (HOST, "Content-Length: 5", "Expect: 100-continue")
    await client.send("PUT /a HTTP/1.1", *head)
    assert (await client.head())[0] == 100
    await client.send(body=b"hello")  # an empty line in front of a request doesn't count
    assert (await client.answer())[2].endswith(b"\r\nhel")
    client = await running.client()
    await client.send("PUT /refused HTTP/1.1", *head)
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (403, "close"), "the body may come or not: nobody can tell"
    assert await client.rest() == b""


async def test_pipelined_requests_wait_outside(start: Start) -> None:
    """They are answered in turn; no more of them are read than fit into one reading."""
    gate, begun = asyncio.Event(), 0

    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        nonlocal begun
        begun += 1
        await gate.wait()
        await answer(send, scope["raw_path"])

    running = await start(handle)
    client = await running.client()
    for number in range(5000):
        client.writer.write(b"GET /%d HTTP/1.1\r\nX: %b\r\n\r\n" % (number, b"x" * 1000))
    await asyncio.sleep(0.2)
    [connection] = running.server.connections
    assert begun == 1
    assert len(connection._waiting) < 200
    gate.set()
    for number in range(5000):
        assert (await client.answer())[2] == b"/%d" % number


async def test_a_client_that_sends_no_more_gets_its_answers(start: Start) -> None:
    """All of them, and then the end."""
    client = await (await start(echo)).client()
    client.writer.write(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
    client.writer.write_eof()
    assert (await client.answer())[2] == b"GET /a /a  "
    assert (await client.answer())[2] == b"GET /b /b  "
    assert await client.rest() == b""


async def test_a_body_that_nobody_takes_is_not_read(start: Start) -> None:
    """What is held of it stays small, and the client waits."""
    gate = asyncio.Event()

    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        await gate.wait()
        await answer(send, b"%d" % len(await whole_body(receive)))

    running = await start(handle)
    client = await running.client()
    length = 64 * 1024**2
    await client.send("PUT /a HTTP/1.1", HOST, f"Content-Length: {length}")
    sending = asyncio.create_task(_send_all(client, length))
    await asyncio.sleep(0.5)
    [connection] = running.server.connections
    assert connection._exchange is not None
    assert sum(map(len, connection._exchange._pieces)) <= 512 * 1024
    assert not sending.done()
    gate.set()
    assert (await client.answer())[2] == b"%d" % length
    await sending


async def _send_all(client: Client, length: int) -> None:
    for _ in range(0, length, 1024**2):
        client.writer.write(b"x" * 1024**2)
        await client.writer.drain()
