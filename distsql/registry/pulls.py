"""What is pulled: counted in memory, written down for many pulls at once, and added up for many servers at once.

A pull writes nothing. Every few seconds a server writes what it counted as one row (a batch), which costs a fraction of
what a row for each tag and manifest would; and by turns one of them adds all batches up.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from distsql.errors import UnavailableError
from distsql.oci.digest import Digest
from distsql.registry.deferring import Deferred
from distsql.registry.turns import Turns
from distsql.sql import pull_batches, pulls
from distsql.sql.database import Database, Transaction
from distsql.sql.pull_batches import CountedPulls
from distsql.values import ActorKind

_log: Final = logging.getLogger("distsql")
_DAY_S: Final = 24 * 60 * 60
# Requests, until they are added up: to do that one by one costs two times as much, for each time everything that it
# needs is out of the processor's caches; and with hundreds their own memory is.
_TOGETHER: Final = 32
# Different things, until they are written ahead of their time; and what is kept at most while the catalogue is away.
_MANY: Final = 20_000
_MOST: Final = 50_000
_AT_ONCE: Final = 2000  # of them in a batch: requests wait no longer than it takes to put these together, some 5 ms
_CLOSING_S: Final = 5.0  # a server that stops has other things to end: what it wrote is safe, and others add it up
_BATCHES: Final = 50  # in a transaction that adds them up
_REST: Final = 200  # times as long as it took to add up, until it is somebody's turn again
_LONGEST_REST: Final = timedelta(minutes=1)


Counted = tuple[str, ActorKind, str | None, Digest | None, int, int, int]
"""A request: a repository's full name, who asked, the tag and the manifest's digest if it was about one; whether it was
a pull (1 or 0), and the bytes that it gave out itself, and by a redirect."""
_Asked = tuple[str | None, Digest | None]
_Group = tuple[float, str, ActorKind]
"""A day, counted from 1970; a repository; and who asked."""


class Counts:
    """What one kind of actor was given out of a repository on a day."""

    __slots__ = ("pulls", "pulls_of", "redirected_bytes", "requests", "sent_bytes")

    def __init__(self) -> None:
        self.requests = self.pulls = self.sent_bytes = self.redirected_bytes = 0
        self.pulls_of: dict[_Asked, int] = {}
        """Of what was asked for. When, the batch says: it is as old as the interval at most."""


class Pulls:
    """Of one process. What it has not written when it is killed is lost: the last few seconds."""

    __slots__ = ("_counted", "_database", "_deferred", "_memory", "_new", "_size", "_unwritten")

    def __init__(self, database: Database, *, interval_s: float) -> None:
        self._database = database
        self._deferred = Deferred(self.flush, seconds=interval_s)
        self._memory: dict[_Group, Counts] = {}
        self._new: list[Counted] = []
        self._counted = False
        self._size = 0  # how many different things are in it
        self._unwritten: list[list[CountedPulls]] = []

    def add(self, request: Counted) -> None:
        """Counts one request."""
        new = self._new
        new.append(request)
        if len(new) == 1:
            self._counted = True
            self._deferred.want()
        if len(new) >= _TOGETHER:
            self._make_room()
            self._add_up()

    def _make_room(self) -> None:
        if self._size >= _MOST:
            _log.warning("Pulls since the last %d different ones are not counted: the catalogue is away", _MOST)
            self._memory, self._size = {}, 0

    def _add_up(self) -> None:
        new, self._new = self._new, []
        memory, day = self._memory, time.time() // _DAY_S
        for name, kind, tag, digest, pulls_, sent_bytes, redirected_bytes in new:
            key = (day, name, kind)
            counts = memory.get(key)
            if counts is None:
                counts = memory[key] = Counts()
                self._size += 1
            counts.requests += 1
            counts.pulls += pulls_
            counts.sent_bytes += sent_bytes
            counts.redirected_bytes += redirected_bytes
            if tag is not None or digest is not None:
                asked = (tag, digest)
                before = counts.pulls_of.get(asked)
                if before is None:
                    self._size += 1
                    before = 0
                counts.pulls_of[asked] = before + pulls_
        if self._size >= _MANY:
            self._deferred.hurry()

    async def close(self) -> None:
        """Writes what is left, and adds it up; nothing of a process that counted nothing, as a command's."""
        await self._deferred.close()
        if not self._counted:
            return
        try:
            async with asyncio.timeout(_CLOSING_S):
                await add_up(self._database)
        except UnavailableError as error:
            _log.warning("Pulls are added up by whoever is next: %s", error)
        except TimeoutError:
            _log.warning("Pulls are added up by whoever is next: it takes over %g s", _CLOSING_S)

    async def flush(self) -> bool:
        """Writes what is remembered, and tells whether it has to be tried again."""
        self._add_up()
        if not await self._write():
            return True
        memory, self._memory, self._size = self._memory, {}, 0
        self._unwritten += _batches(memory)
        return not await self._write()

    async def _write(self) -> bool:
        """Each batch in a transaction of its own. Whether all are done with, well or not."""
        while self._unwritten:
            batch = self._unwritten.pop(0)
            if not await self._write_one(batch):
                self._unwritten.insert(0, batch)
                return False
        return True

    async def _write_one(self, batch: Sequence[CountedPulls]) -> bool:
        written = False

        async def write(tx: Transaction) -> None:
            nonlocal written
            written = False
            await pull_batches.insert_pull_batch(tx, batch)
            written = True

        try:
            await self._database.transact(write)
        except UnavailableError as error:
            _log.warning("Pulls were not counted%s: %s", "" if written else " yet", error)
            return written  # then nobody knows whether the commit came through: nothing is counted twice
        return True


async def add_up(database: Database) -> int:
    """Adds what servers wrote to what was pulled before; how many batches they were."""
    count, added = 0, _BATCHES
    while added == _BATCHES:
        added = await database.transact(functools.partial(pulls.add_pulls, limit=_BATCHES))
        count += added
    return count


async def add_up_in_turn(database: Database) -> bool:
    """As `add_up`, unless another server does, or did lately: together they do it half a percent of the time."""
    return await Turns(database, "adding up pulls").take(functools.partial(add_up, database), rest=rest_after)


def rest_after(took: float) -> timedelta:
    """Until when nobody adds up again, after it took so many seconds."""
    return min(timedelta(seconds=took * _REST), _LONGEST_REST)


async def forget_ended_tags(database: Database, *, age: timedelta, page: int = 1000, pause_s: float = 0.1) -> int:
    """How many tags' pulls went that ended longer ago. Page by page, with rest between them: nobody waits for it."""
    after, forgotten = (-1, -1, ""), 0
    look = functools.partial(pulls.forget_tag_pulls, age=age, limit=page)
    while row := await database.transact(functools.partial(look, after=after)):
        after, forgotten = row[:3], forgotten + row.forgotten
        await asyncio.sleep(pause_s)
    return forgotten


def _batches(memory: Mapping[_Group, Counts]) -> Iterator[list[CountedPulls]]:
    """Of so many different things each that nobody waits long for one to be put together."""
    batch: list[CountedPulls] = []
    room = _AT_ONCE
    for (day, name, kind), counts in memory.items():
        tenant, _, path = name.partition("/")
        on = datetime.fromtimestamp(day * _DAY_S, UTC).date()
        totals = counts.requests, counts.pulls, counts.sent_bytes, counts.redirected_bytes
        asked, pulls_of = list(counts.pulls_of), list(counts.pulls_of.values())
        at = 0
        while True:
            part = slice(at, at + max(room, 1))
            batch.append(CountedPulls(tenant, path, on, kind, *totals, asked[part], pulls_of[part]))
            room -= len(asked[part]) + 1
            if room <= 0:
                yield batch
                batch, room = [], _AT_ONCE
            at, totals = part.stop, (0, 0, 0, 0)  # which are written once
            if at >= len(asked):
                break
    if batch:
        yield batch
