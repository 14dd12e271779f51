"""Who goes together, and what each is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from distsql.errors import CatalogueBusyError, CatalogueUnavailableError, DistsqlError, ReadOnlyError
from distsql.registry.group_commit import GroupCommit

TRACE: ContextVar[str] = ContextVar("TRACE")
UNLIKE_ANY = object()


class Writer:
    """Writes what it is given, when it is let; refuses groups with what is bad."""

    def __init__(self, *bad: str, refusal: DistsqlError | None = None) -> None:
        self.groups: list[list[str]] = []
        self.free = asyncio.Event()
        self.commit: GroupCommit[str, str] = GroupCommit()
        self._bad = set(bad)
        self._refusal = refusal or ReadOnlyError("refused")

    async def __call__(self, items: Sequence[str]) -> list[str]:
        self.groups.append(list(items))
        await self.free.wait()
        if self._bad & set(items):
            raise self._refusal
        return [item.upper() for item in items]

    def write(self, item: str, *, place: str = "here", key: object = UNLIKE_ANY, length: int = 1) -> asyncio.Task[str]:
        writing = self.commit.write(place, item, self, key=object() if key is UNLIKE_ANY else key, length=length)
        return asyncio.create_task(writing)

    async def run(self, *tasks: asyncio.Task[str]) -> list[str | BaseException]:
        self.free.set()
        return await asyncio.gather(*tasks, return_exceptions=True)


async def turns() -> None:
    """Until nothing has its turn in the event loop any more."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_comes_alone_goes_alone_and_at_once() -> None:
    writer = Writer()
    writing = writer.write("a")
    await turns()
    assert writer.groups == [["a"]]
    assert await writer.run(writing) == ["A"]


async def test_what_comes_together_goes_together() -> None:
    writer = Writer()
    assert await writer.run(*(writer.write(item) for item in "abc")) == ["A", "B", "C"]
    assert writer.groups == [["a", "b", "c"]]


async def test_what_comes_meanwhile_goes_in_the_next_group() -> None:
    writer = Writer()
    first = writer.write("a")
    await turns()
    later = [writer.write("b"), writer.write("c")]
    await turns()
    assert writer.groups == [["a"]]
    assert await writer.run(first, *later) == ["A", "B", "C"]
    assert writer.groups == [["a"], ["b", "c"]]


async def test_what_goes_elsewhere_waits_for_nobody() -> None:
    writer = Writer()
    tasks = [writer.write("a"), writer.write("b", place="there")]
    await turns()
    assert writer.groups == [["a"], ["b"]]
    assert await writer.run(*tasks) == ["A", "B"]


async def test_nothing_goes_twice_in_one_group() -> None:
    writer = Writer()
    tasks = [writer.write("a", key=1), writer.write("b", key=1), writer.write("c", key=2)]
    assert await writer.run(*tasks) == ["A", "B", "C"]
    assert writer.groups == [["a", "c"], ["b"]]


async def test_at_most_sixteen_go_together() -> None:
    writer = Writer()
    await writer.run(*(writer.write(str(number)) for number in range(40)))
    assert [len(group) for group in writer.groups] == [16, 16, 8]


async def test_large_ones_go_alone() -> None:
    writer = Writer()
    length = 1024 * 1024
    await writer.run(*(writer.write(item, length=length // 2) for item in "abc"), writer.write("d", length=9 * length))
    assert writer.groups == [["a", "b"], ["c"], ["d"]]


async def test_a_refusal_is_told_to_nobody_else() -> None:
    writer = Writer("b")
    found = await writer.run(*(writer.write(item) for item in "abc"))
    assert [found[0], found[2]] == ["A", "C"]
    assert isinstance(found[1], ReadOnlyError)
    assert writer.groups == [["a", "b", "c"], ["a"], ["b"], ["c"]]


async def test_a_commit_of_unknown_outcome_is_not_tried_again() -> None:
    writer = Writer("b", refusal=CatalogueUnavailableError("lost"))
    found = await writer.run(*(writer.write(item) for item in "abc"))
    assert [type(each) for each in found] == [CatalogueUnavailableError] * 3
    assert writer.groups == [["a", "b", "c"]]


async def test_what_others_held_up_is_tried_again_alone() -> None:
    writer = Writer("b", refusal=CatalogueBusyError("locked"))
    found = await writer.run(*(writer.write(item) for item in "abc"))
    assert [found[0], found[2]] == ["A", "C"]
    assert isinstance(found[1], CatalogueBusyError)


async def test_who_has_gone_is_left_out() -> None:
    writer = Writer()
    first = writer.write("a")
    await turns()
    gone, stays = writer.write("b"), writer.write("c")
    await turns()
    gone.cancel()
    assert await writer.run(first, stays) == ["A", "C"]
    assert writer.groups == [["a"], ["c"]]


async def test_all_have_gone() -> None:
    writer = Writer()
    first = writer.write("a")
    await turns()
    gone = writer.write("b")
    await turns()
    gone.cancel()
    assert await writer.run(first) == ["A"]
    await turns()
    assert writer.groups == [["a"]]
    assert await writer.run(writer.write("c")) == ["C"]


@pytest.mark.parametrize("bad", [(), ("a",)], ids=["written", "refused"])
async def test_who_goes_meanwhile_stops_nobody(bad: tuple[str, ...]) -> None:
    writer = Writer(*bad)
    gone, stays = writer.write("a"), writer.write("b")
    await turns()
    gone.cancel()
    assert await writer.run(stays) == ["B"]


async def test_a_group_is_of_the_trace_of_its_first() -> None:
    found = []

    async def write(items: Sequence[str]) -> list[str]:
        found.append((TRACE.get(), list(items)))
        await asyncio.sleep(0)
        return list(items)

    async def ask(item: str) -> None:
        TRACE.set(item)
        await commit.write("here", item, write, key=item, length=1)

    commit: GroupCommit[str, str] = GroupCommit()
    first = asyncio.create_task(ask("a"))
    while not found:
        await asyncio.sleep(0)
    await asyncio.gather(first, ask("b"), ask("c"))
    assert found == [("a", ["a"]), ("b", ["b", "c"])]


async def test_closing_waits_for_what_is_being_written() -> None:
    writer = Writer()
    gone = writer.write("a")
    await turns()
    gone.cancel()
    closing = asyncio.create_task(writer.commit.close())
    await turns()
    assert not closing.done()
    writer.free.set()
    await asyncio.wait_for(closing, 5)


async def test_places_are_forgotten() -> None:
    writer = Writer()
    await writer.run(*(writer.write("a", place=str(number)) for number in range(10)))
    await turns()
    assert writer.commit.places == 0


async def test_who_is_held_up_lets_others_pass() -> None:
    writer = Writer()
    held = writer.write("a")
    await turns()
    passing = Writer()
    passing.free.set()
    passing.commit = writer.commit
    async with asyncio.timeout(5):
        assert [*await asyncio.gather(passing.write("b"), passing.write("c"))] == ["B", "C"]
        assert await passing.write("d") == "D"
    assert not held.done()
    assert await writer.run(held) == ["A"]
    await turns()
    assert writer.commit.places == 0


async def test_nobody_waits_for_ever_for_what_was_cancelled() -> None:
    async def write(items: Sequence[str]) -> list[str]:
        raise asyncio.CancelledError

    commit: GroupCommit[str, str] = GroupCommit()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await asyncio.gather(*(commit.write("here", item, write, key=item, length=1) for item in "ab"))


async def test_what_was_in_a_group_that_failed_lets_others_pass_too() -> None:
    alone: list[str] = []
    stuck = asyncio.Event()

    async def write(items: Sequence[str]) -> list[str]:
        if len(items) > 1:
            raise ReadOnlyError("refused")
        alone.extend(items)
        if items == ["a"]:
            await stuck.wait()
        return list(items)

    commit: GroupCommit[str, str] = GroupCommit()
    held, *others = [asyncio.create_task(commit.write("here", item, write, key=item, length=1)) for item in "abc"]
    async with asyncio.timeout(5):
        assert [*await asyncio.gather(*others)] == ["b", "c"]
    assert not held.done()
    stuck.set()
    assert await held == "a"
    assert alone == ["a", "b", "c"]


async def test_a_group_that_is_overdue_when_it_fails_is_not_forgotten() -> None:
    async def write(items: Sequence[str]) -> list[str]:
        if len(items) > 1:
            await asyncio.sleep(0.3)
            raise ReadOnlyError("refused")
        return list(items)

    commit: GroupCommit[str, str] = GroupCommit()
    async with asyncio.timeout(5):
        found = await asyncio.gather(*(commit.write("here", item, write, key=item, length=1) for item in "ab"))
    assert [*found] == ["a", "b"]


async def test_closing_waits_for_what_is_about_to_be_written() -> None:
    writer = Writer()
    writer.free.set()
    writing = writer.write("a")
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await writer.commit.close()
    assert writer.groups == [["a"]]
    assert await writing == "A"
