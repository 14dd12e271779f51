"""What every byte store promises, second part: who may change an object, and when it is gone for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest

from distsql.bytestore.contract import ByteStore, Staged
from distsql.errors import BytesMissingError, StoreUnavailableError, UploadBusyError
from tests.bytestore.steps import all_of, append, complete, content_of, found, writing

Keep = Callable[[ByteStore, bytes], Awaitable[Staged]]

MIB = 1024 * 1024
SMALL = b"some bytes"


# -- one writer at a time -----------------------------------------------------------------------------------------


async def test_second_writer_is_refused(store: ByteStore, twin: ByteStore, stage: Keep) -> None:
    for staged in (await store.begin(), await stage(store, content_of(store))):
        async with writing(store, staged):
            for other in (store, twin) if store.exclusive else (store,):
                with pytest.raises(UploadBusyError):
                    await other.writer(await other.claim(staged)).__aenter__()
                with pytest.raises(UploadBusyError):
                    await other.writer(staged).__aenter__()
        async with writing(twin, staged):
            pass


async def test_complete_is_refused_while_a_writer_is_open(store: ByteStore, twin: ByteStore, stage: Keep) -> None:
    staged = await stage(store, content_of(store))
    async with writing(store, staged):
        with pytest.raises(UploadBusyError):
            await complete(twin if store.exclusive else store, staged)
    await complete(twin, staged)


async def test_writer_lets_go_after_an_error(store: ByteStore, twin: ByteStore, stage: Keep) -> None:
    staged = await stage(store, content := content_of(store))
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is the point
        async with writing(store, staged) as writer:
            await writer.write(content_of(store))
            raise ZeroDivisionError
    staged = await complete(twin, staged)
    assert await store.read(staged.key, 0, staged.length) == content


async def test_writer_lets_go_when_cancelled(store: ByteStore, twin: ByteStore, stage: Keep) -> None:
    staged, content = await stage(store, first := content_of(store)), content_of(store)

    async def write_for_ever() -> None:
        async with store.writer(staged) as writer:
            while True:
                await writer.write(content)
                await asyncio.sleep(0)

    for delay_s in (0.0, 0.001, 0.01, 0.02):
        staged = await store.claim(staged)
        task = asyncio.create_task(write_for_ever())
        await asyncio.sleep(delay_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        staged = await append(twin, staged, SMALL)
    staged = await complete(twin, staged)
    assert await twin.read(staged.key, 0, staged.length) == first + 4 * SMALL


async def test_racing_writers_take_turns(store: ByteStore, twin: ByteStore) -> None:
    current, done, turns = await store.begin(), 0, 60 if store.exclusive else 20
    inside: set[str] = set()

    async def take_turns(mine: ByteStore) -> None:
        nonlocal current, done
        while done < turns:
            try:
                staged = current
                claimed = await mine.claim(staged)
                if not mine.exclusive and staged is current:
                    current = claimed  # from here on nobody else's value counts
                async with mine.writer(claimed) as writer:
                    if claimed is not current:
                        continue  # somebody's turn ended between our look and our lock
                    number, shut_out = done, "any" if mine.exclusive else str(id(mine))
                    assert shut_out not in inside
                    inside.add(shut_out)
                    try:
                        await writer.write(b"%03d" % number)
                        flushed = await writer.flush()
                    except BytesMissingError:  # what an outdated value names may be gone
                        assert claimed is not current
                    else:
                        if claimed is current:
                            current, done = flushed, number + 1
                    finally:
                        inside.remove(shut_out)
            except UploadBusyError:
                await asyncio.sleep(0)

    await asyncio.gather(*(take_turns(mine) for mine in (store, twin, store, twin)))
    current = await complete(store, current)
    assert await store.read(current.key, 0, current.length) == b"".join(b"%03d" % number for number in range(done))


async def test_writer_is_of_no_use_outside(store: ByteStore) -> None:
    writer = store.writer(await store.begin())
    with pytest.raises(StoreUnavailableError):
        await writer.write(SMALL)
    async with writer:
        pass
    with pytest.raises(StoreUnavailableError):
        await writer.flush()


# -- completing ---------------------------------------------------------------------------------------------------


async def test_unfinished_object_is_not_readable(store: ByteStore, stage: Keep) -> None:
    key = (await stage(store, content_of(store))).key
    assert await store.length(key) is None
    with pytest.raises(BytesMissingError):
        await store.read(key, 0, 1)


async def test_completing_again_is_harmless(store: ByteStore, twin: ByteStore, keep: Keep) -> None:
    staged = await keep(store, content := content_of(store))
    assert (await complete(store, staged)).key == staged.key
    assert (await complete(twin, staged)).key == staged.key
    assert await store.read(staged.key, 0, staged.length) == content


async def test_completing_at_another_length_is_refused(store: ByteStore, keep: Keep) -> None:
    staged = await keep(store, content := content_of(store))
    for length in (staged.length - 1, staged.length + 1):
        with pytest.raises(BytesMissingError):
            await complete(store, replace(staged, length=length))
    assert await store.read(staged.key, 0, staged.length) == content


async def test_completed_object_is_taken_back(store: ByteStore, twin: ByteStore, keep: Keep) -> None:
    staged = await keep(store, content := content_of(store))
    async with writing(twin, staged) as writer:
        await writer.write(SMALL)
        longer = await writer.flush()
        assert await store.length(staged.key) == (None if store.exclusive else staged.length)
    longer = await complete(store, longer)
    assert await twin.read(longer.key, 0, longer.length) == content + SMALL
    await store.settle(longer)
    assert [item.key for item in await found(store, longer)] == [longer.key]


@pytest.mark.parametrize("missing", ["writer", "complete", "staged_stream"])
async def test_bytes_that_are_not_there_are_missed(store: ByteStore, stage: Keep, missing: str) -> None:
    staged = await stage(store, content_of(store))
    for wrong in (replace(staged, length=staged.length + 1), Staged((await store.begin()).key, length=5)):
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "writer": partial(append, store, wrong, SMALL),
            "complete": partial(complete, store, wrong),
            "staged_stream": store.staged_stream(wrong).__anext__,
        }
        with pytest.raises(BytesMissingError):
            await calls[missing]()
    await complete(store, staged)  # and nothing was harmed or left locked


# -- forgetting ---------------------------------------------------------------------------------------------------


async def test_abort_leaves_nothing(store: ByteStore, twin: ByteStore, stage: Keep, keep: Keep) -> None:
    for staged in (await store.begin(), await stage(store, content_of(store)), await keep(store, content_of(store))):
        await twin.abort(staged)
        await twin.abort(staged)
        assert await store.length(staged.key) is None
        assert await found(store, staged) == []


async def test_writer_of_an_aborted_object_is_told(store: ByteStore, twin: ByteStore, stage: Keep) -> None:
    staged = await stage(store, content_of(store))
    async with writing(store, staged) as writer:
        await twin.abort(staged)
        with pytest.raises(BytesMissingError):  # noqa: PT012 - a store may find out with either
            await writer.write(content_of(store))
            await writer.flush()
    assert await found(store, staged) == []


async def test_delete(store: ByteStore, twin: ByteStore, stage: Keep, keep: Keep) -> None:
    key = (await keep(store, content_of(store))).key
    unfinished = await stage(store, content_of(store))
    for name in (key, key, unfinished.key, (await store.begin()).key):
        await twin.delete(name)
    assert await store.length(key) is None
    assert await found(store, Staged(key)) == []
    await complete(store, unfinished)  # delete is for finished objects


async def test_absent_object(store: ByteStore) -> None:
    key = (await store.begin()).key
    assert await store.length(key) is None
    assert store.local_path(key) is None
    for start, stop in [(0, 0), (0, 5), (0, 500_000)]:
        with pytest.raises(BytesMissingError):
            await store.read(key, start, stop)
        with pytest.raises(BytesMissingError):
            await all_of(store.stream(key, start, stop))


async def test_range_past_the_end_fails_before_the_first_piece(store: ByteStore, keep: Keep) -> None:
    key = (await keep(store, bytes(600_000))).key
    for start, stop in [(0, 600_001), (599_999, 600_001), (700_000, 700_001)]:
        with pytest.raises(BytesMissingError):
            await anext(store.stream(key, start, stop))
        with pytest.raises(BytesMissingError):
            await store.read(key, start, stop)


@pytest.mark.parametrize(
    "key", ["", "x", "..", "../../etc/passwd", "ab/" + "g" * 32, "/etc/passwd", "a" * 5000, "ab/\0", "ä/b", "ab/" * 11]
)
async def test_key_that_the_store_never_made_names_nothing(store: ByteStore, key: str) -> None:
    assert await store.length(key) is None
    assert store.local_path(key) is None
    await store.delete(key)
    await store.abort(Staged(key))
    with pytest.raises(BytesMissingError):
        await store.read(key, 0, 1)
    with pytest.raises(BytesMissingError):
        await all_of(store.stream(key, 0, 100_000))
    with pytest.raises(BytesMissingError):
        await append(store, Staged(key, length=1), b"x")
    with pytest.raises(BytesMissingError):
        await complete(store, Staged(key, length=1))
