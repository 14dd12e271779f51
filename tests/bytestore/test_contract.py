"""What every byte store promises (distsql/bytestore/contract.py); nothing here may know where the bytes are.

Goes on in `test_contract_states.py`.
"""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from distsql.bytestore.contract import ByteStore, Staged, StoredObject
from distsql.errors import BytesMissingError, StoreUnavailableError
from tests.bytestore.steps import all_of, append, complete, content_of, writing

Keep = Callable[[ByteStore, bytes], Awaitable[Staged]]

MIB = 1024 * 1024
SMALL = b"some bytes"


# -- writing and reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 65_536, 65_537, 262_144, 262_145, 1_000_000])
async def test_what_was_written_is_read(store: ByteStore, keep: Keep, length: int) -> None:
    content = os.urandom(length)
    staged = await keep(store, content)
    assert staged.length == length
    assert await store.length(staged.key) == length
    assert await store.read(staged.key, 0, length) == content
    assert await all_of(store.stream(staged.key, 0, length)) == content


async def test_ranges(store: ByteStore, keep: Keep) -> None:
    content = os.urandom(700_000)
    key = (await keep(store, content)).key
    for start, stop in [(0, 0), (0, 1), (5, 5), (1, 65_537), (65_535, 70_001), (100, 600_100), (699_999, 700_000)]:
        assert await store.read(key, start, stop) == content[start:stop]
        assert await all_of(store.stream(key, start, stop)) == content[start:stop]


async def test_stream_has_no_empty_piece(store: ByteStore, keep: Keep) -> None:
    key = (await keep(store, b"x" * 524_288)).key
    assert all([piece async for piece in store.stream(key, 0, 524_288)])
    assert [piece async for piece in store.stream(key, 7, 7)] == []


async def test_any_buffer_is_taken_and_let_go(store: ByteStore) -> None:
    buffer = bytearray(content_of(store, 100_000))
    wanted = bytes(buffer) + b"small" + bytes(buffer)
    async with writing(store, await store.begin()) as writer:
        await writer.write(buffer)
        small = bytearray(b"small")
        await writer.write(memoryview(small))
        small[:] = b"?????"  # not read any more
        await writer.write(memoryview(buffer))
        buffer.clear()  # a BufferError if anybody held on to it
        staged = await writer.flush()
    staged = await complete(store, staged)
    assert await store.read(staged.key, 0, len(wanted)) == wanted


async def test_many_small_writes(store: ByteStore) -> None:
    pieces = [os.urandom(n % 5000) for n in range(0, 400_000, 997)]
    staged = await append(store, await store.begin(), *pieces)
    staged = await complete(store, staged)
    assert await all_of(store.stream(staged.key, 0, staged.length)) == b"".join(pieces)


async def test_observer_is_shown_everything_in_order(store: ByteStore) -> None:
    pieces = [content_of(store, length) for length in (1, 70_000, 3, 300_000)]
    seen = bytearray()
    async with writing(store, await store.begin()) as writer:
        for piece in pieces:
            await writer.write(piece, observe=seen.extend)
        await writer.flush()
    assert seen == b"".join(pieces)


async def test_begin_gives_new_keys_and_no_object(store: ByteStore) -> None:
    begun = [await store.begin() for _ in range(100)]
    assert len({staged.key for staged in begun}) == 100
    assert {staged.length for staged in begun} == {0}
    assert [item async for item in store.walk()] == []


async def test_object_of_no_bytes_that_never_had_a_writer(store: ByteStore, twin: ByteStore) -> None:
    staged = await store.begin()
    async with writing(twin, staged) as writer:
        assert writer.is_newest == store.exclusive
    assert await all_of(store.staged_stream(staged)) == b""
    staged = await complete(store, staged)
    assert await twin.length(staged.key) == 0
    assert await twin.read(staged.key, 0, 0) == b""


async def test_entering_a_writer_changes_nothing(store: ByteStore, twin: ByteStore, stage: Keep, keep: Keep) -> None:
    """Only then can its caller look, with the others shut out, whether its value is still the newest.

    Where the store shows that it is, there is no need to.
    """
    old = await stage(store, content := content_of(store))
    new = await append(store, old, content)
    for staged in (old, new):
        async with writing(twin, staged) as writer:
            assert writer.is_newest == (store.exclusive and staged is new)
            assert (await writer.flush()).length == staged.length
    if store.exclusive:
        assert await all_of(store.staged_stream(new)) == content + content
    new = await complete(store, new)
    async with writing(twin, new) as writer:
        assert not writer.is_newest  # adding bytes would take it back
        assert await store.length(new.key) == new.length
    assert await all_of(store.stream(new.key, 0, new.length)) == content + content


# -- resuming -----------------------------------------------------------------------------------------------------


async def test_any_process_goes_on(store: ByteStore, twin: ByteStore) -> None:
    first, second, third = (content_of(store) for _ in range(3))
    staged = await append(store, await store.begin(), first)
    staged = await append(twin, staged, second)
    staged = await append(store, staged, third)
    staged = await complete(twin, staged)
    assert await all_of(store.stream(staged.key, 0, staged.length)) == first + second + third


async def test_each_flush_gives_the_length_so_far(store: ByteStore) -> None:
    piece, wanted = content_of(store), []
    async with writing(store, staged := await store.begin()) as writer:
        for times in (1, 2, 3) if store.exclusive else (1,):
            await writer.write(piece)
            staged = await writer.flush()
            wanted.append(staged.length == times * len(piece))
    for times in (4, 5) if store.exclusive else (2, 3):
        staged = await append(store, staged, piece)
        wanted.append(staged.length == times * len(piece))
    assert all(wanted)


async def test_after_a_flush_a_store_without_locks_wants_a_claim(store: ByteStore) -> None:
    if store.exclusive:
        pytest.skip("shuts others out by itself")
    async with writing(store, await store.begin()) as writer:
        await writer.write(SMALL)
        staged = await writer.flush()
        with pytest.raises(StoreUnavailableError):
            await writer.write(SMALL)
    assert (await append(store, staged, SMALL)).length == 2 * len(SMALL)


@pytest.mark.parametrize("length", [10, 200_000])
async def test_what_was_not_flushed_never_shows(store: ByteStore, twin: ByteStore, stage: Keep, length: int) -> None:
    staged = await stage(store, content := content_of(store))
    staged = await store.claim(staged)
    async with store.writer(staged) as writer:
        await writer.write(os.urandom(length))
    staged = await append(twin, staged, SMALL)
    staged = await complete(twin, staged)
    assert await store.read(staged.key, 0, staged.length) == content + SMALL


async def test_going_on_from_an_older_value_drops_what_came_later(store: ByteStore, twin: ByteStore) -> None:
    old = await append(store, await store.begin(), content := content_of(store))
    old = await store.claim(old)  # is remembered, what comes of it is not
    async with store.writer(old) as writer:
        await writer.write(content_of(store))
        await writer.write(b"more")
        await writer.flush()
    new = await append(twin, old, SMALL)
    new = await complete(twin, new)
    assert await twin.read(new.key, 0, new.length) == content + SMALL


async def test_older_value_completes_at_its_own_length(store: ByteStore, twin: ByteStore, stage: Keep) -> None:
    old = await stage(store, content := content_of(store))
    async with writing(store, old) as writer:
        await writer.write(content_of(store))
        await writer.flush()
    old = await complete(twin, old)
    assert await twin.read(old.key, 0, old.length) == content
    assert await twin.length(old.key) == old.length


async def test_staged_stream_reads_what_another_process_wrote(store: ByteStore, twin: ByteStore, stage: Keep) -> None:
    staged = await stage(store, content := content_of(store))
    if not store.exclusive:
        with pytest.raises(BytesMissingError):  # of an object with parts nothing can be read yet
            await all_of(twin.staged_stream(staged))
        staged = await stage(store, content := SMALL)
    async with writing(store, staged) as writer:
        await writer.write(content_of(store))
        assert await all_of(twin.staged_stream(staged)) == content  # beside a writer
    assert await all_of(twin.staged_stream(staged)) == content
    staged = await complete(store, staged)
    assert await all_of(twin.staged_stream(staged)) == content


# -- the rest -----------------------------------------------------------------------------------------------------


async def test_walk_finds_everything(store: ByteStore, twin: ByteStore, stage: Keep, keep: Keep) -> None:
    count = 300 if store.exclusive else 30
    finished = {(await keep(store, b"x" * n)).key: n for n in range(count)}
    unfinished = {(await stage(store, bytes(store.minimum_chunk + n))).key: store.minimum_chunk + n for n in range(5)}
    items = [item async for item in twin.walk()]
    assert {item.key: item.length for item in items if item.complete} == finished
    lengths: Counter[str] = Counter()
    for item in items:
        if not item.complete:
            lengths[item.staged_key or item.key] += item.length
    assert lengths == unfinished
    assert len({item.key for item in items}) == len(items)
    if store.exclusive:
        assert len(items) == len(finished) + len(unfinished)
    assert all(abs(datetime.now(UTC) - item.modified_at) < timedelta(minutes=5) for item in items)


async def test_walk_can_be_left_early_and_beside_deletes(store: ByteStore, keep: Keep) -> None:
    keys = {(await keep(store, SMALL)).key for _ in range(20)}
    async with aclosing(cast("AsyncGenerator[StoredObject]", store.walk())) as walk:
        assert (await anext(walk)).key in keys
    async for item in store.walk():
        await store.delete(item.key)
    assert [item async for item in store.walk()] == []


async def test_local_path_has_the_content(store: ByteStore, keep: Keep) -> None:
    staged = await keep(store, SMALL)
    path = store.local_path(staged.key)
    assert path is None or path.read_bytes() == SMALL


async def test_reader_keeps_what_it_opened(store: ByteStore, keep: Keep) -> None:
    """A pull that runs while the object is deleted gets all of it, or an error; never other bytes."""
    staged = await keep(store, content := os.urandom(2 * MIB))
    stream = store.stream(staged.key, 0, staged.length)
    pieces = [await anext(stream)]
    await store.delete(staged.key)
    try:
        async for piece in stream:
            pieces.append(piece)  # noqa: PERF401 - kept when it fails half way
    except (BytesMissingError, StoreUnavailableError):
        assert content.startswith(b"".join(pieces))
    else:
        assert b"".join(pieces) == content


async def test_many_tasks_at_once(store: ByteStore, twin: ByteStore, keep: Keep) -> None:
    async def one(number: int) -> None:
        mine, other = (store, twin) if number % 2 else (twin, store)
        content = os.urandom(number * 5000)
        staged = await keep(mine, content)
        assert await all_of(other.stream(staged.key, 0, staged.length)) == content
        await other.delete(staged.key)

    await asyncio.gather(*(one(number) for number in range(40 if store.exclusive else 15)))
    assert [item async for item in store.walk()] == []


async def test_url_has_a_known_scheme(store: ByteStore) -> None:
    assert store.url.partition(":")[0] in {"memory", "file", "s3"}
    assert store.minimum_chunk >= 0


async def test_memory_stays_flat(store: ByteStore) -> None:
    if store.url == "memory:":
        pytest.skip("keeps everything in memory: that is its purpose")
    piece = memoryview(os.urandom(MIB))
    tracemalloc.start()
    try:
        async with writing(store, await store.begin()) as writer:
            for _ in range(64):
                await writer.write(piece)
            staged = await writer.flush()
        staged = await complete(store, staged)
        length = 0
        async for got in store.stream(staged.key, 0, staged.length):
            length += len(got)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length == 64 * MIB
    assert peak < (3 * MIB if store.exclusive else 24 * MIB)
