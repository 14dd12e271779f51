"""Connections that are idle, slow or stalled, how many each worker has, and the end of all."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from distsql.values import ASGIReceive, ASGIScope, ASGISend
from distsql.web import server
from distsql.web.connections import Patience
from distsql.web.shares import ABSENT, Shares
from distsql.web.workers import Workers
from tests.server.processes import wait_until
from tests.web.conftest import Client, Running, Start, answer, echo

HOST = "Host: registry.test"
SHORT = Patience(head=0.2, idle=0.4, stalled=0.2)


async def ended_after(running: Running, client: Client, *, seconds: float) -> bool:
    """Whether the server ends the connection when it looks then, and not before."""
    running.server.check()
    assert not client.reader.at_eof()
    await asyncio.sleep(seconds)
    running.server.check()
    try:
        return await asyncio.wait_for(client.reader.read(), 1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


async def test_slow_heads_and_idle_connections(start: Start) -> None:
    running = await start(echo, patience=SHORT)
    silent, slow, idle = [await running.client() for _ in range(3)]
    slow.writer.write(b"GET / HT")
    await idle.send("GET / HTTP/1.1", HOST)
    await idle.answer()
    await asyncio.sleep(0.05)
    running.server.check()
    assert len(running.server.connections) == 3
    assert await ended_after(running, slow, seconds=0.25)
    assert await silent.rest() == b""
    assert not idle.reader.at_eof()
    assert await ended_after(running, idle, seconds=0.3)


async def test_a_slow_head_behind_a_request(start: Start) -> None:
    """It has no more time than any other, although it began while the connection was at work."""
    running = await start(echo, patience=SHORT)
    client = await running.client()
    client.writer.write(b"GET /a HTTP/1.1\r\n\r\nGET /b HT")
    await client.answer()
    assert await ended_after(running, client, seconds=0.25)


async def test_a_request_that_takes_long_is_nobodys_fault(start: Start) -> None:
    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        await asyncio.sleep(0.6)
        await answer(send, b"late")

    running = await start(handle, patience=SHORT)
    client = await running.client()
    await client.send("GET / HTTP/1.1", HOST)
    await asyncio.sleep(0.5)
    running.server.check()
    assert (await client.answer())[2] == b"late"


@pytest.mark.parametrize("kind", ["body", "file"])
async def test_who_takes_nothing_is_left(start: Start, tmp_path: Path, kind: str) -> None:
    """It would hold its answer, a file and a task for ever."""
    path, failed = tmp_path / "file", asyncio.Event()
    path.write_bytes(b"x" * 50_000_000)

    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        length = (b"content-length", b"50000000")
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        try:
            if kind == "file":
                await send({"type": "http.response.pathsend", "path": str(path)})
            else:
                await send({"type": "http.response.body", "body": b"x" * 50_000_000, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": True})
        except ConnectionError:
            failed.set()
            raise

    running = await start(handle, patience=SHORT)
    client = await running.client()
    await client.send("GET / HTTP/1.1", HOST)
    for _ in range(20):
        await asyncio.sleep(0.1)
        running.server.check()
        if failed.is_set():
            return
    raise AssertionError("nobody was told")


async def test_the_end(start: Start) -> None:
    """Idle connections end at once, running requests are answered, and those that take too long are cut off."""
    begun = asyncio.Event()

    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        begun.set()
        await asyncio.sleep(0.3 if scope["path"] == "/short" else 60)
        await answer(send, b"done")

    running = await start(handle, stop_s=1)
    idle, short, long = [await running.client() for _ in range(3)]
    await short.send("GET /short HTTP/1.1", HOST)
    await long.send("GET /long HTTP/1.1", HOST)
    await begun.wait()
    began = time.monotonic()
    running.server.stop()
    assert await idle.rest() == b""
    status, headers, body = await short.answer()
    assert (status, headers["connection"], body) == (200, "close", b"done")
    assert (await long.answer())[0] == 503
    assert time.monotonic() - began < 3
    with pytest.raises(ConnectionRefusedError):
        await running.client()


async def test_the_end_of_who_has_just_come(start: Start) -> None:
    """A connection that was taken in the last moment is closed as any other that is idle: nobody waits for it."""
    running = await start(echo, stop_s=20)
    await running.client()
    with socket.create_connection(running.address) as late:
        running.server._accept()
        running.server.stop()
        began = time.monotonic()
        while running.server.tasks or running.server.connections:
            await asyncio.sleep(0.01)
            assert time.monotonic() - began < 5
        late.settimeout(5)
        assert late.recv(1) == b""


async def test_the_end_of_those_who_wait_and_those_who_are_slow(start: Start) -> None:
    """What was pipelined is answered, and what was sent is taken, before the process may end."""
    begun = asyncio.Event()

    async def handle(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        begun.set()
        await asyncio.sleep(0.02)
        await answer(send, b"x" * 60_000)

    running = await start(handle)
    client = await running.client()
    client.writer.write(b"GET / HTTP/1.1\r\n\r\n" * 50)
    await begun.wait()
    running.server.stop()
    for _ in range(50):
        assert (await client.answer())[2] == b"x" * 60_000
    assert await client.rest() == b""


def test_shares() -> None:
    """Whoever has the fewest is due; who isn't there has no part in it."""
    counts = [ABSENT, ABSENT, ABSENT]
    first, second = Shares(counts, 0), Shares(counts, 1)

    def due() -> tuple[bool, bool]:
        return first.is_due, second.is_due

    first.tell(3)
    assert due() == (True, False)
    second.tell(2)
    assert due() == (False, True)
    second.tell(3)
    assert due() == (True, True)


async def test_who_has_more_leaves_connections_to_others(start: Start) -> None:
    """For a moment: if nobody takes them, it does."""
    running = await start(echo)
    counts = [0, 0]
    running.server._shares = Shares(counts, 0)
    clients = [await running.client() for _ in range(4)]
    for client in clients:
        await client.send("GET / HTTP/1.1", HOST)
        assert (await client.answer())[0] == 200
    assert counts == [4, 0]
    for client in clients:
        client.writer.close()
    while counts[0]:
        await asyncio.sleep(0.01)


async def test_connections_that_come_and_go_wait_for_no_equal_shares(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_BRIEF_S", 5)
    running = await start(echo)
    counts = [0, 0]
    running.server._shares = Shares(counts, 0)
    lasting = await running.client()
    await lasting.send("GET / HTTP/1.1", HOST)
    await lasting.answer()
    rests: list[float] = []
    rest = running.server._rest

    def count(seconds: float) -> None:
        rests.append(seconds)
        rest(seconds)

    monkeypatch.setattr(running.server, "_rest", count)
    for _ in range(5):
        client = await running.client()
        await client.send("GET / HTTP/1.1", HOST, "Connection: close")
        await client.rest()
    assert len(rests) == 1  # for the first, before any had ended
    assert counts == [1, 0]


class Full:
    """A listener for which this process has no number left, a few times."""

    def __init__(self, listener: socket.socket, *, times: int) -> None:
        self._listener, self.times = listener, times
        self.fileno, self.close = listener.fileno, listener.close

    def accept(self) -> tuple[socket.socket, object]:
        if self.times:
            self.times -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener.accept()


async def test_no_room_for_a_connection(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits, and the server tries again now and then, not as fast as it can."""
    monkeypatch.setattr(server, "_REST_S", 0.1)
    running = await start(echo)
    first = await running.client()
    await first.send("GET / HTTP/1.1", HOST)
    await first.answer()
    running.server.loop.remove_reader(running.server._listener)
    running.server._listener = full = Full(running.server._listener, times=5)  # type: ignore[assignment]
    running.server._listen()
    began = time.monotonic()
    client = await running.client()
    await client.send("GET / HTTP/1.1", HOST)
    assert (await client.answer())[0] == 200
    assert time.monotonic() - began > 0.45
    assert full.times == 0
    assert caplog.text.count("No connection could be taken") == 5


def work(folder: Path, shares: Shares) -> None:
    """A worker that says that it is there, and that it ends."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    shares.tell(0)
    (folder / f"begun-{os.getpid()}").touch()
    while not told.wait(0.05):
        pass
    (folder / f"ended-{os.getpid()}").touch()


def test_workers_are_replaced_and_ended(tmp_path: Path) -> None:
    """One that was killed has a successor; SIGTERM comes to an end only when all have."""
    workers = Workers(work, (tmp_path,), number=2)

    def begun() -> set[int]:
        return {int(path.name.removeprefix("begun-")) for path in tmp_path.glob("begun-*")}

    def drive() -> None:
        wait_until(lambda: len(begun()) == 2)
        os.kill(min(begun()), signal.SIGKILL)
        wait_until(lambda: len(begun()) == 3)
        os.kill(os.getpid(), signal.SIGTERM)

    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    driving = threading.Thread(target=drive)
    driving.start()
    try:
        workers.run()
        workers.stop(5)
    finally:
        signal.set_wakeup_fd(-1)
        for each, handler in handlers.items():
            signal.signal(each, handler)
    driving.join()
    assert len(list(tmp_path.glob("ended-*"))) == 2
