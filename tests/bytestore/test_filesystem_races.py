"""Who may hold a file of bytes: threads, tasks that are cancelled, several stores at once, and processes that die."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from distsql.bytestore.contract import ByteStore, Staged
from distsql.bytestore.filesystem import FilesystemStore
from distsql.bytestore.threads import Threads
from distsql.errors import BytesMissingError, UploadBusyError
from tests.bytestore.folders import append, finished, unfinished
from tests.bytestore.steps import complete

T = TypeVar("T")
Keep = Callable[[ByteStore, bytes], Awaitable[Staged]]

BIG = 300_000

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


# -- threads ------------------------------------------------------------------------------------------------------


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was run in a thread."""
    names: list[str] = []
    real: Callable[..., Awaitable[Any]] = Threads.run

    async def run(threads: Threads, work: Callable[..., T], *args: object) -> T:
        names.append(work.__name__)
        result: T = await real(threads, work, *args)
        return result

    monkeypatch.setattr(Threads, "run", run)
    return names


async def test_small_objects_take_few_thread_hops(files: FilesystemStore, hops: list[str], keep: Keep) -> None:
    staged = await keep(files, b"x" * 1000)
    assert hops == ["_enter", "_flush", "_enter", "_complete"]
    hops.clear()
    assert [piece async for piece in files.stream(staged.key, 0, 1000)] == [b"x" * 1000]
    assert await files.read(staged.key, 0, 1000) == b"x" * 1000
    assert hops == []


async def test_bytes_that_are_not_cached_are_read_in_a_thread(
    files: FilesystemStore, hops: list[str], keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = await keep(files, content := os.urandom(1_000_000))
    hops.clear()

    def uncached(*_: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "preadv", uncached)
    assert await files.read(staged.key, 5, 1000) == content[5:1000]
    assert b"".join([piece async for piece in files.stream(staged.key, 0, 1_000_000)]) == content
    assert hops[:2] == ["first", "next"]
    assert hops[2:] == ["first", *4 * ["next"]]


@pytest.mark.parametrize("cancels", [1, 3])
async def test_cancelled_write_waits_for_its_thread(
    files: FilesystemStore, monkeypatch: pytest.MonkeyPatch, cancels: int
) -> None:
    """Else the thread would write to a closed file, whose number may be another file's by then."""
    real, started, ended = os.pwrite, threading.Event(), threading.Event()

    def slow(fd: int, data: bytes, at: int) -> int:
        started.set()
        time.sleep(0.1)
        written = real(fd, data, at)
        ended.set()
        return written

    monkeypatch.setattr(os, "pwrite", slow)
    staged = await files.begin()
    task = asyncio.create_task(append(files, staged, bytes(BIG)))
    await asyncio.to_thread(started.wait)
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    async with files.writer(staged):
        pass  # not locked


async def test_cancelled_entry_lets_go(files: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real, started = fcntl.flock, threading.Event()

    def slow(fd: int, operation: int) -> None:
        real(fd, operation)
        started.set()
        time.sleep(0.05)

    monkeypatch.setattr(fcntl, "flock", slow)
    staged = await files.begin()
    task = asyncio.create_task(append(files, staged, b"x"))
    await asyncio.to_thread(started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with files.writer(staged):
        pass


@linux
async def test_no_file_stays_open(files: FilesystemStore, root: Path, keep: Keep) -> None:
    def open_files() -> list[str]:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [target for link in links if (target := str(link.readlink())).startswith(str(root))]

    staged = await keep(files, bytes(1_000_000))
    for length in (staged.length, staged.length + 1, 0):
        for call in (complete(files, Staged(staged.key, length)), append(files, Staged(staged.key, length), b"x")):
            try:
                await call
            except BytesMissingError:
                continue
    staged = await keep(files, bytes(1_000_000))
    stream = files.stream(staged.key, 0, 1_000_000)
    await anext(stream)
    await anext(files.walk())
    del stream
    await asyncio.sleep(0.01)  # the event loop closes generators that were dropped
    assert open_files() == []


# -- races --------------------------------------------------------------------------------------------------------


@contextmanager
def before_first_lock(patch: pytest.MonkeyPatch, action: Callable[[], object]) -> Iterator[None]:
    """Lets the action happen between a writer's open and its flock."""
    real, pending = fcntl.flock, [action]

    def flock(fd: int, operation: int) -> None:
        if pending:
            pending.pop()()
        real(fd, operation)

    with patch.context() as context:
        context.setattr(fcntl, "flock", flock)
        yield


async def test_completed_between_open_and_lock(
    files: FilesystemStore, root: Path, stage: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = await stage(files, b"content")

    def finish() -> None:
        finished(root, staged.key).parent.mkdir(exist_ok=True)
        unfinished(root, staged.key).rename(finished(root, staged.key))

    with before_first_lock(monkeypatch, finish):
        staged = await append(files, staged, b" more")
    assert unfinished(root, staged.key).read_bytes() == b"content more"
    assert not finished(root, staged.key).exists()


async def test_aborted_between_open_and_lock(
    files: FilesystemStore, root: Path, stage: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = await stage(files, b"content")
    with before_first_lock(monkeypatch, unfinished(root, staged.key).unlink), pytest.raises(BytesMissingError):
        await append(files, staged, b" more")
    assert list((root / "staging").iterdir()) == []


async def test_new_file_beside_a_finished_object_is_a_stray(
    files: FilesystemStore, root: Path, stage: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer of a new object found neither file, since another one took the object back and then completed it."""
    staged = await stage(files, b"content")
    await complete(files, staged)
    finished(root, staged.key).rename(root / "hidden")
    with before_first_lock(monkeypatch, lambda: (root / "hidden").rename(finished(root, staged.key))):
        again = await append(files, Staged(staged.key), b"again")
    assert not finished(root, staged.key).exists()
    unfinished(root, staged.key).rename(finished(root, staged.key))
    unfinished(root, staged.key).touch()  # left by a writer that was killed right there
    await complete(files, again)
    assert await files.read(again.key, 0, 5) == b"again"
    assert await append(files, again, b"!") == Staged(again.key, 6)


@pytest.mark.parametrize("aborts", [False, True])
async def test_writers_and_completers_race(files: FilesystemStore, root: Path, aborts: bool) -> None:
    """Four stores write, complete and take back one object: it has one writer and one place at each moment."""
    stores = [FilesystemStore(root) for _ in range(4)]
    key = (await files.begin()).key
    current, inside, flushes = Staged(key), 0, 0

    async def write(store: FilesystemStore) -> None:
        nonlocal current, inside, flushes
        async with store.writer(current) as writer:
            inside += 1
            assert inside == 1 or aborts  # a new object may begin beside the writer of the aborted one
            await writer.write(b"x" * 70_000)
            inside -= 1
            current, flushes = await writer.flush(), flushes + 1

    async def race(store: FilesystemStore, turn: int) -> None:
        nonlocal current
        while flushes < 60:
            turn += 1
            try:
                if turn % 3 == 0:
                    await complete(store, current)
                elif turn % 17 == 0 and aborts:
                    await store.abort(current)
                else:
                    await write(store)
            except UploadBusyError:
                await asyncio.sleep(0)
            except BytesMissingError:
                current = Staged(key)

    await asyncio.gather(*(race(store, turn) for turn, store in enumerate(stores)))
    if finished(root, key).exists() and unfinished(root, key).exists():
        assert unfinished(root, key).stat().st_size == 0  # a stray
    await files.abort(current)
    assert [item async for item in files.walk()] == []
    for store in stores:
        await store.close()


# -- processes ----------------------------------------------------------------------------------------------------

WRITES_UNTIL_KILLED = """
import asyncio, sys
from pathlib import Path
from distsql.bytestore.contract import Staged
from distsql.bytestore.filesystem import FilesystemStore

async def main():
    store = FilesystemStore(Path(sys.argv[1]))
    await store.open()
    async with store.writer(Staged(sys.argv[2], int(sys.argv[3]))) as writer:
        await writer.write(b"p" * 100_000)
        print((await writer.flush()).length, flush=True)
        while True:
            await writer.write(b"?" * 100_000)

asyncio.run(main())
"""


async def test_killed_writer_is_resumed_by_another_process(files: FilesystemStore, root: Path, stage: Keep) -> None:
    staged = await stage(files, b"first")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WRITES_UNTIL_KILLED, str(root), staged.key, "5"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        staged = Staged(staged.key, int(await process.stdout.readline()))
        while unfinished(root, staged.key).stat().st_size == staged.length:
            await asyncio.sleep(0.001)
        for call in (append(files, staged, b"x"), complete(files, staged)):
            with pytest.raises(UploadBusyError):
                await call
    finally:
        process.kill()
        await process.wait()
    assert unfinished(root, staged.key).stat().st_size > staged.length
    staged = await append(files, staged, b"last")
    await complete(files, staged)
    assert await files.read(staged.key, 0, 5) == b"first"
    assert await files.read(staged.key, 5, 100_005) == b"p" * 100_000
    assert await files.read(staged.key, 100_005, staged.length) == b"last"
