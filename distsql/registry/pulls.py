"""What is pulled: counted in memory, written down for many pulls at once, and added up for many servers at once.

A pull writes nothing. Every few seconds a server writes what it counted as one row (a batch), which costs a fraction of
what a row for each tag and manifest would; and by turns one of them adds all batches up.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections import Counter
from collections.abc import Sequence
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
# Requests, until equal ones are put together: one by one everything that it needs is out of the processor's caches each
# time, and with hundreds their own memory is.
_TOGETHER: Final = 32
# Different things, until they are written ahead of their time; and what is kept at most while the catalogue is away.
_MANY: Final = 20_000
_MOST: Final = 50_000
_AT_ONCE: Final = 2000  # of them in a batch: requests wait no longer than it takes to put these together, some 3 ms
_CLOSING_S: Final = 5.0  # a server that stops has other things to end: what it wrote is safe, and others add it up
_BATCHES: Final = 50  # in a transaction that adds them up
_REST: Final = 200  # times as long as it took to add up, until it is somebody's turn again
_LONGEST_REST: Final = timedelta(minutes=1)

_Page = tuple[float, Sequence[tuple[str, int]]]
"""Of a day, counted from 1970: different requests, and how often each of them."""


class Pulls:
    """Of one process. What it has not written when it is killed is lost: the last few seconds.

    A request is remembered as one text, equal ones as a number beside it. Any more objects for each request cost more
    than to make them: memory that would be used again at once is kept for seconds, and the next request takes other.
    """

    __slots__ = ("_counted", "_database", "_deferred", "_memory", "_new", "_unwritten")

    def __init__(self, database: Database, *, interval_s: float) -> None:
        self._database = database
        self._deferred = Deferred(self.flush, seconds=interval_s)
        self._memory: dict[float, Counter[str]] = {}  # by the day, counted from 1970
        self._new: list[str] = []
        self._counted = False
        self._unwritten: list[_Page] = []

    def add(
        self,
        name: str,
        kind: ActorKind,
        tag: str | None,
        digest: Digest | None,
        pulls: int,
        sent_bytes: int,
        redirected_bytes: int,
    ) -> None:
        """Counts one request.

        About this repository, by whom; for which tag and manifest if it was about one; whether it was a pull (1 or 0);
        and the bytes that it gave out itself, and by a redirect. Given by their places: this is done for each request.
        """
        new = self._new
        packed = "" if digest is None else digest.packed.decode("latin-1")  # last: it may have spaces in it
        new.append(f"{name} {kind} {tag or ''} {pulls} {sent_bytes} {redirected_bytes} {packed}")
        if len(new) == 1:
            self._counted = True
            self._deferred.want()
        elif len(new) >= _TOGETHER:
            self._put_together()

    def _put_together(self) -> None:
        new, self._new = self._new, []
        memory, day = self._memory, time.time() // _DAY_S
        if day not in memory:
            memory[day] = Counter()
        memory[day].update(new)
        different = self.different
        if different >= _MOST:
            _log.warning("The last %d different pulls are not counted: the catalogue is away", different)
            self._memory = {}
        elif different >= _MANY:
            self._deferred.hurry()

    @property
    def different(self) -> int:
        """How many different things are remembered."""
        return sum(map(len, self._memory.values()))

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
        self._put_together()
        if not await self._write():
            return True
        memory, self._memory = self._memory, {}
        for day, counts in memory.items():
            counted = list(counts.items())
            self._unwritten += [(day, counted[at : at + _AT_ONCE]) for at in range(0, len(counted), _AT_ONCE)]
        return not await self._write()

    async def _write(self) -> bool:
        """Each batch in a transaction of its own. Whether all are done with, well or not."""
        while self._unwritten:
            page = self._unwritten.pop(0)
            if not await self._write_one(_batch(page)):
                self._unwritten.insert(0, page)
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


def _batch(page: _Page) -> list[CountedPulls]:
    """Some of what is remembered, by repository and kind of actor."""
    on = datetime.fromtimestamp(page[0] * _DAY_S, UTC).date()
    groups: dict[tuple[str, str], CountedPulls] = {}
    for text, requests in page[1]:
        name, kind, tag, pulls, sent_bytes, redirected_bytes, digest = text.split(" ", 6)
        group = groups.get((name, kind))
        if group is None:
            tenant, _, path = name.partition("/")
            group = groups[name, kind] = CountedPulls(tenant, path, on, kind)
        pulled = requests * int(pulls)
        group.requests += requests
        group.pulls += pulled
        group.sent_bytes += requests * int(sent_bytes)
        group.redirected_bytes += requests * int(redirected_bytes)
        if tag or digest:
            group.asked_tags.append(tag or None)
            group.asked_digests.append(digest.encode("latin-1") if digest else None)
            group.asked_pulls.append(pulled)
    return list(groups.values())
