"""Random lives of one object, told to a byte store and to a model of a few lines: both must always agree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from distsql.bytestore.contract import ByteStore, Staged
from distsql.errors import BytesMissingError
from tests.bytestore.steps import complete, found, writing

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
        self.first = staged
        self.staged = [staged]  # the values that flushes gave
        self.content = b""  # what is durable
        self.state: Literal["absent", "unfinished", "finished"] = "absent"
        self.key = staged.key  # where it is when it is finished
        self.written = 0

    def forget(self, first: Staged, store: ByteStore) -> None:
        self.content, self.state = b"", "absent"
        if not store.exclusive:  # the catalogue knows nothing of it any more, so nobody goes on
            self.staged = [first]

    def claim(self, store: ByteStore) -> Staged:
        """The newest value, for which somebody is to write. It was remembered then: nobody goes back further."""
        if not store.exclusive:
            self.staged = self.staged[-1:]
        return self.staged[-1]

    def piece(self, length: int) -> bytes:
        self.written += 1
        return bytes([self.written % 256]) * length


async def append(store: ByteStore, model: Model, lengths: list[int], *, flush: bool) -> None:
    staged, added = model.claim(store), b""
    try:
        async with writing(store, staged) as writer:
            if model.state == "absent":
                model.state = "unfinished"
            for length in lengths:
                piece = model.piece(length)
                await writer.write(piece)
                added += piece
            if flush:
                model.staged.append(await writer.flush())
                assert model.staged[-1].length == staged.length + len(added)
    except BytesMissingError:
        assert len(model.content) < staged.length
        return
    if flush and added:
        model.content, model.state = model.content[: staged.length] + added, "unfinished"
    elif added and await store.length(model.key) is None:  # may have happened already, with the first byte
        model.content, model.state = model.content[: staged.length], "unfinished"


async def complete_newest(store: ByteStore, model: Model) -> None:
    staged = model.claim(store)
    try:
        completed = await complete(store, staged)
    except BytesMissingError:
        shorter = len(model.content) < staged.length
        assert shorter or (model.state == "finished" and len(model.content) != staged.length)
    else:
        assert len(model.content) == staged.length or model.state != "finished" or not store.exclusive
        model.content, model.state, model.key = model.content[: staged.length], "finished", completed.key
        if not store.exclusive:  # it was remembered when it was sealed
            model.staged = [completed]


async def check(store: ByteStore, model: Model) -> None:
    key, length = model.key, len(model.content)
    if model.state == "finished":
        assert await store.length(key) == length
        assert await store.read(key, 0, length) == model.content
        assert await joined(store.stream(key, length // 3, length)) == model.content[length // 3 :]
    elif store.exclusive:
        assert await store.length(key) is None
    if model.staged[-1].length <= length and (store.exclusive or "parts" not in model.staged[-1].state):
        wanted = model.content[: model.staged[-1].length]
        assert await joined(store.staged_stream(model.staged[-1])) == wanted
    completes = {item.complete for item in await found(store, model.first)}
    # Neither an object without bytes nor one of which nothing was flushed need to be in the store.
    if model.state == "finished" or (model.content and not store.exclusive):
        assert completes == {True} if store.exclusive else completes
    elif store.exclusive:
        assert completes == {False} if model.content else completes <= {False}


async def joined(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


@pytest.mark.parametrize("twins", ["memory", "filesystem"], indirect=True)
@given(steps=STEPS)
@settings(
    max_examples=2 * settings().max_examples // 5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_store_agrees_with_the_model(store: ByteStore, twin: ByteStore, steps: list[Step]) -> None:
    await agree(store, twin, steps)


@pytest.mark.slow
@pytest.mark.parametrize("twins", ["s3"], indirect=True)
@example(steps=[("append", [65_535], False), ("complete",), ("append", [3], True), ("delete",), ("older",)])
@given(steps=STEPS)
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # each step is requests to a server: to find a shorter life takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_object_store_agrees_with_the_model(store: ByteStore, twin: ByteStore, steps: list[Step]) -> None:
    await agree(store, twin, steps)


async def agree(store: ByteStore, twin: ByteStore, steps: list[Step]) -> None:
    first = await store.begin()
    model = Model(first)
    for number, step in enumerate(steps):
        one = twin if number % 2 else store
        match step:
            case ("append", lengths, flush):
                await append(one, model, lengths, flush=flush)
            case ("complete",):
                await complete_newest(one, model)
            case ("abort",):
                await one.abort(first)
                model.forget(first, store)
            case ("delete",):
                # An object store keeps it while a value needs it that was remembered before more was added.
                needed = not store.exclusive and await store.length(model.key) is not None
                await one.delete(model.key)
                if model.state == "finished" or needed:
                    model.forget(first, store)
            case ("older",):  # the transaction that would have remembered the last flush was rolled back
                model.staged = model.staged[:-1] or model.staged
            case _:
                await check(one, model)
    await check(store, model)
    await store.abort(first)
    assert await found(store, first) == []
