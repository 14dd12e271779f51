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
from typing import Final, NamedTuple

from distsql.errors import UnavailableError
from distsql.oci.digest import Digest
from distsql.oci.names import DEFAULT_TENANT
from distsql.registry.deferring import Deferred
from distsql.registry.turns import Turns
from distsql.sql import pull_batches, pulls
from distsql.sql.database import Database
from distsql.sql.pull_batches import CountedPulls
from distsql.sql.transactions import Transaction
from distsql.values import ActorKind

_log: Final = logging.getLogger("distsql")
_DAY_S: Final = 24 * 60 * 60
# Requests, until they are written ahead of their time; and different ones that are kept while the catalogue is away.
_MANY: Final = 20_000
_MOST: Final = 50_000
_AT_ONCE: Final = 2000  # of them in a batch: requests wait no longer than it takes to put these together, some 3 ms
_CLOSING_S: Final = 5.0  # a server that stops has other things to end: what it wrote is safe, and others add it up
_BATCHES: Final = 50  # in a transaction that adds them up
_REST: Final = 200  # times as long as it took to add up, until it is somebody's turn again
_LONGEST_REST: Final = timedelta(minutes=1)

_Page = tuple[float, Sequence[tuple[str, int]]]
"""Of a day, counted from 1970: different requests, and how often each of them."""


class _Asked(NamedTuple):
    """Tags, packed digests, and how often each was asked for."""

    tags: list[str | None]
    digests: list[bytes | None]
    counts: list[int]


class Pulls:
    """Of one process. What it has not written when it is killed is lost: the last few seconds.

    A request is remembered as one text, and nothing else is done until they are written: to look for each among
    thousands takes longer than all of it, as they are out of the processor's caches then; and of more objects for each
    request, memory that would be used again at once is kept for seconds.
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
        if not new:
            self._counted = True
            self._deferred.want()
        elif len(new) >= _MANY:
            self._make_room()
        packed = "" if digest is None else digest.packed.decode("latin-1")  # last: it has any character
        new.append(f"{kind}/{name} {pulls} {sent_bytes} {redirected_bytes}\n{tag or ''}\n{packed}")

    def _make_room(self) -> None:
        self._deferred.hurry()
        if len(self._new) >= 2 * _MANY:  # what was to be written before is being written still
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
    heads: dict[str, _Asked] = {}  # most differ in their tags and digests only
    for text, requests in page[1]:
        head, tag, digest = text.split("\n", 2)
        asked = heads.get(head)
        if asked is None:
            asked = heads[head] = _Asked([], [], [])
        tags, digests, counts = asked
        tags.append(tag or None)
        digests.append(digest.encode("latin-1") if digest else None)
        counts.append(requests)
    groups: dict[str, CountedPulls] = {}
    for head, asked in heads.items():
        whose, pulls, sent_bytes, redirected_bytes = head.split(" ")
        if whose not in groups:
            kind, _, name = whose.partition("/")
            tenant, path = name.split("/", 1) if "/" in name else (DEFAULT_TENANT, name)
            groups[whose] = CountedPulls(tenant, path, on, kind)
        groups[whose].add(*asked, pulls=int(pulls), sent_bytes=int(sent_bytes), redirected_bytes=int(redirected_bytes))
    return list(groups.values())
