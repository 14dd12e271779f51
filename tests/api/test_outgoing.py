"""Requests that the registry sends: to where they may go, in bounds, and what comes back is only a status."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from distsql.api.outgoing import Sender, check_target, is_public
from distsql.errors import AddressRefusedError, DeliveryFailedError

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def saying(text: bytes, seen: list[bytes] | None = None) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            seen.append(head + await reader.readexactly(length))
        writer.write(text)
        await writer.drain()

    return answer


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hooks.test/",
        "file:///etc/passwd",
        "gopher://hooks.test/",
        "//hooks.test/",
        "http:///path",
        "http://user:secret@hooks.test/",
        "http://hooks.test/#part",
        "http://hooks.test:99999/",
        "http://hooks.test/ x",
        "http://hooks.test/\r\nhost: other",
        "http://hööks.test/",
        "http://[nonsense/",
        "HTTP",
    ],
)
def test_urls_that_nothing_is_sent_to(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        check_target(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
    ],
)
def test_addresses_that_are_not_of_the_internet(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_of_the_internet(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_this_machine_is_refused_however_it_is_written(host: str) -> None:
    seen: list[bytes] = []
    async with listening(saying(b"HTTP/1.1 200 OK\r\n\r\n", seen)) as port:
        with pytest.raises(AddressRefusedError, match="DISTSQL_WEBHOOK_ALLOW"):
            await Sender().post(f"http://{host}:{port}/", {}, b"")
    assert seen == []


async def test_a_name_is_resolved_once_and_the_address_that_was_judged_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public at first and private a moment later (rebinding) leads nowhere."""
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    connected = []

    async def resolve(self: object, host: str, port: int, **more: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers.pop(0)]

    async def connect(host: str, port: int, **more: object) -> None:
        connected.append((host, more["server_hostname"]))
        raise ConnectionRefusedError("not in tests")

    monkeypatch.setattr(asyncio.get_running_loop().__class__, "getaddrinfo", resolve)
    monkeypatch.setattr(asyncio, "open_connection", connect)
    with pytest.raises(DeliveryFailedError):
        await Sender().post("https://hooks.test/", {}, b"")
    assert connected == [("93.184.216.34", "hooks.test")]
    with pytest.raises(AddressRefusedError):
        await Sender().post("https://hooks.test/", {}, b"")
    assert len(connected) == 1


async def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(self: object, host: str, port: int, **more: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, 1, 6, "", (address, port)) for address in ("93.184.216.34", "10.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop().__class__, "getaddrinfo", resolve)
    with pytest.raises(AddressRefusedError, match=r"10\.0\.0\.1"):
        await Sender().post("https://hooks.test/", {}, b"")


async def test_what_is_sent_and_what_comes_back() -> None:
    seen: list[bytes] = []
    async with listening(saying(b"HTTP/1.1 204 No Content\r\n\r\n", seen)) as port:
        url = f"http://localhost:{port}/hook?x=1"
        assert await Sender(allowed=["LOCALHOST"]).post(url, {"webhook-id": "1"}, b"{}") == 204
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"POST /hook?x=1 HTTP/1.1"
    assert f"host: localhost:{port}".encode() in head
    assert b"webhook-id: 1" in head
    assert body == b"{}"


async def test_redirects_are_not_followed() -> None:
    seen: list[bytes] = []
    async with listening(saying(b"HTTP/1.1 200 OK\r\n\r\n", seen)) as elsewhere:
        moved = f"HTTP/1.1 307 Moved\r\nlocation: http://localhost:{elsewhere}/\r\n\r\n".encode()
        async with listening(saying(moved)) as port:
            assert await Sender(allowed=["localhost"]).post(f"http://localhost:{port}/", {}, b"") == 307
    assert seen == []


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until the other side goes


async def _endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(1000):
        writer.write(b"x" * 10_000)
        await writer.drain()


@pytest.mark.parametrize(
    "answer", [_silent, _endless, saying(b""), saying(b"SSH-2.0\r\n"), saying(b"HTTP/1.1 abc\r\n")]
)
async def test_answers_are_bounded(answer: Answer) -> None:
    async with listening(answer) as port:
        with pytest.raises(DeliveryFailedError):
            await Sender(allowed=["localhost"], timeout_s=0.5).post(f"http://localhost:{port}/", {}, b"")


async def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(DeliveryFailedError):
        await Sender(allowed=["localhost"]).post(f"http://localhost:{port}/", {}, b"")
