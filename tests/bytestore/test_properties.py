"""Random lives of one object, told to a byte store and to a model of a few lines: both must always agree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distsql.bytestore.contract import ByteStore, Staged
from distsql.errors import BytesMissingError
from tests.bytestore.steps import complete

Step = (
    tuple[Literal["append"], list[int], bool]  # write pieces of these lengths; flush or not
    | tuple[Literal["complete", "abort", "delete", "read", "older"]]
)

LENGTHS = st.one_of(st.integers(0, 40), st.sampled_from([65_535, 65_536, 65_537, 140_000]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(LENGTHS, max_size=4), st.booleans()),
        st.tuples(st.sampled_from(["complete", "abort", "delete", "read", "older"])),
    ),
    max_size=12,
)


class Model:
    """What the store should hold, and what the catalogue would know."""

    def __init__(self, staged: Staged) -> None:
        self.staged = [staged]  # the values that flushes gave
        self.content = b""  # what is durable
        self.state: Literal["absent", "unfinished", "finished"] = "absent"
        self.written = 0

    def piece(self, length: int) -> bytes:
        self.written += 1
        return bytes([self.written % 256]) * length


async def append(store: ByteStore, model: Model, lengths: list[int], *, flush: bool) -> None:
    staged, added = model.staged[-1], b""
    writer = store.writer(staged)
    try:
        await writer.__aenter__()
    except BytesMissingError:
        assert len(model.content) < staged.length
        return
    if model.state == "absent":
        model.state = "unfinished"
    try:
        for length in lengths:
            piece = model.piece(length)
            await writer.write(piece)
            added += piece
        if flush:
            model.staged.append(await writer.flush())
            assert model.staged[-1].length == staged.length + len(added)
    finally:
        await writer.__aexit__(None, None, None)
    if flush and added:
        model.content, model.state = model.content[: staged.length] + added, "unfinished"
    elif added and await store.length(staged.key) is None:  # may have happened already, with the first byte
        model.content, model.state = model.content[: staged.length], "unfinished"


async def complete_newest(store: ByteStore, model: Model) -> None:
    staged = model.staged[-1]
    try:
        await complete(store, staged)
    except BytesMissingError:
        shorter = len(model.content) < staged.length
        assert shorter or (model.state == "finished" and len(model.content) != staged.length)
    else:
        assert len(model.content) == staged.length or model.state != "finished"
        model.content, model.state = model.content[: staged.length], "finished"


async def check(store: ByteStore, model: Model) -> None:
    key, length = model.staged[0].key, len(model.content)
    if model.state == "finished":
        assert await store.length(key) == length
        assert await store.read(key, 0, length) == model.content
        assert await joined(store.stream(key, length // 3, length)) == model.content[length // 3 :]
    else:
        assert await store.length(key) is None
    if model.staged[-1].length <= length:
        wanted = model.content[: model.staged[-1].length]
        assert await joined(store.staged_stream(model.staged[-1])) == wanted
    found = {item.complete async for item in store.walk() if item.key == key}
    # Neither an object without bytes nor one of which nothing was flushed need to be in the store.
    assert found == {model.state == "finished"} if model.content or model.state == "finished" else found <= {False}


async def joined(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


@given(steps=STEPS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_store_agrees_with_the_model(store: ByteStore, twin: ByteStore, steps: list[Step]) -> None:
    model = Model(await store.begin())
    for number, step in enumerate(steps):
        one = twin if number % 2 else store
        match step:
            case ("append", lengths, flush):
                await append(one, model, lengths, flush=flush)
            case ("complete",):
                await complete_newest(one, model)
            case ("abort",):
                await one.abort(model.staged[-1])
                model.content, model.state = b"", "absent"
            case ("delete",):
                await one.delete(model.staged[0].key)
                if model.state == "finished":
                    model.content, model.state = b"", "absent"
            case ("older",):  # the transaction that would have remembered the last flush was rolled back
                model.staged = model.staged[:-1] or model.staged
            case _:
                await check(one, model)
    await check(store, model)
    await store.abort(model.staged[-1])
