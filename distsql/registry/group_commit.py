"""What is written to one place at the same time goes in one transaction, and each is told what became of its own.

Nobody waits for company: what comes while little is being written there is written at once, and what comes meanwhile
goes together with what else has come by then. Nor does anybody wait for long: a group that is held up, by a lock that
somebody else has, lets the next one pass. Where a group fails, each of its members goes again by itself, so that
nobody is told of what another one did wrong.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from distsql.errors import CatalogueBusyError, CatalogueUnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")
Write = Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]
"""Writes all of them, or none and raises; gives the result of each."""

_MOST: Final = 16
_MOST_BYTES: Final = 1024 * 1024
_PATIENCE_S: Final = 0.1  # ten times what a group usually takes


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    key: Hashable
    length: int
    write: Write[Item, Result]
    result: asyncio.Future[Result]
    context: Context
    """Of who waits: what is written belongs to the trace of the first of a group."""


@dataclass(slots=True)
class _Place(Generic[Item, Result]):
    apart: deque[_Waiting[Item, Result]] = field(default_factory=deque)
    """Each goes by itself, for the group failed that it was in."""
    waiting: list[_Waiting[Item, Result]] = field(default_factory=list)
    groups: set[asyncio.Task[None]] = field(default_factory=set)
    """That are being written."""
    holding: asyncio.Task[None] | None = None
    """The one of them that others wait for."""
    is_beginning: bool = False

    @property
    def first(self) -> _Waiting[Item, Result] | None:
        """Who is to go next, if anybody is."""
        return self.apart[0] if self.apart else self.waiting[0] if self.waiting else None

    def take(self) -> list[_Waiting[Item, Result]]:
        """Who goes next: one that is apart, or as many as fit, and nothing twice."""
        while self.apart:
            each = self.apart.popleft()
            if not each.result.done():  # who waited has gone
                return [each]
        group: dict[Hashable, _Waiting[Item, Result]] = {}
        left, room = [], _MOST_BYTES
        for each in self.waiting:
            if each.result.done():
                continue
            if each.key in group or len(group) == _MOST or (group and each.length > room):
                left.append(each)
            else:
                group[each.key] = each
                room -= each.length
        self.waiting = left
        return list(group.values())


class GroupCommit(Generic[Item, Result]):
    """Groups of one process, each of items that are written to the same place."""

    def __init__(self) -> None:
        self._places: dict[Hashable, _Place[Item, Result]] = {}

    @property
    def places(self) -> int:
        """To how many something is being written."""
        return len(self._places)

    async def write(
        self, place: Hashable, item: Item, write: Write[Item, Result], *, key: Hashable, length: int
    ) -> Result:
        """The item's own result, when it is committed. No group has two of one ``key``; ``length`` is in bytes."""
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        there = self._places.setdefault(place, _Place())
        there.waiting.append(_Waiting(item, key, length, write, result, copy_context()))
        self._begin_soon(place, there)
        return await result

    async def close(self) -> None:
        """Waits for what is being written, or about to be."""
        while self._places:
            groups = [group for place in self._places.values() for group in place.groups]
            await (asyncio.wait(groups) if groups else asyncio.sleep(0))

    def _begin_soon(self, place: Hashable, there: _Place[Item, Result]) -> None:
        """After those whose turn in the event loop is just now, and those whose requests came meanwhile."""
        if there.first is not None and there.holding is None and not there.is_beginning:
            there.is_beginning = True
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._begin, place, there)

    def _begin(self, place: Hashable, there: _Place[Item, Result]) -> None:
        there.is_beginning = False
        context = None if there.first is None else there.first.context
        group = there.holding = asyncio.create_task(_write(there), context=context)
        there.groups.add(group)
        overdue = asyncio.get_running_loop().call_later(_PATIENCE_S, self._go_on, place, there, group)
        group.add_done_callback(lambda group: self._end(place, there, group, overdue))

    def _go_on(self, place: Hashable, there: _Place[Item, Result], group: asyncio.Task[None]) -> None:
        """Without waiting for the group any more."""
        if there.holding is group:
            there.holding = None
        self._begin_soon(place, there)

    def _end(
        self, place: Hashable, there: _Place[Item, Result], group: asyncio.Task[None], overdue: asyncio.TimerHandle
    ) -> None:
        overdue.cancel()
        there.groups.discard(group)
        self._go_on(place, there, group)
        if not there.groups and there.first is None:
            del self._places[place]


async def _write(there: _Place[Item, Result]) -> None:
    """Those who have come until now, and not only until this was begun. Each is told, or goes again by itself."""
    group = there.take()
    if not group:
        return
    try:
        results = await group[0].write([each.item for each in group])
    except Exception as error:  # noqa: BLE001  # whatever it is, somebody waits for it
        if len(group) > 1 and not _concerns_all(error):
            there.apart.extend(group)
        else:
            _tell(group, error)
    except BaseException:
        for each in group:
            each.result.cancel()  # or they would wait for ever
        raise
    else:
        for each, result in zip(group, results, strict=True):
            if not each.result.done():
                each.result.set_result(result)


def _tell(group: Sequence[_Waiting[Item, Result]], error: Exception) -> None:
    for each in group:
        if not each.result.done():
            each.result.set_exception(error)


def _concerns_all(error: Exception) -> bool:
    """PostgreSQL is away, for everybody; or nobody knows what became of the commit, and it mustn't be tried again."""
    return isinstance(error, CatalogueUnavailableError) and not isinstance(error, CatalogueBusyError)
