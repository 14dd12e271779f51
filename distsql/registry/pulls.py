"""What is pulled, counted in memory and written down for many pulls at once: a pull writes nothing."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from distsql.errors import UnavailableError
from distsql.oci.digest import Digest
from distsql.registry.deferring import Deferred
from distsql.sql import pulls
from distsql.sql.database import Database, Transaction
from distsql.sql.pulls import DailyPulls, ManifestPulls, TagPulls
from distsql.values import ActorKind

_log: Final = logging.getLogger("distsql")
_DAY_S: Final = 24 * 60 * 60
_TOGETHER: Final = 500  # requests, until they are added up
# Different things, until they are written ahead of their time; and what is kept at most while the catalogue is away.
_MANY: Final = 20_000
_MOST: Final = 50_000
_AT_ONCE: Final = 500  # of them in a transaction: requests wait no longer than it takes to put these together


class Counts:
    """Of what was asked for in one way: requests of all kinds, and of them pulls, and the bytes that were given out."""

    __slots__ = ("at", "pulls", "redirected_bytes", "requests", "sent_bytes")

    def __init__(self) -> None:
        self.requests = self.pulls = self.sent_bytes = self.redirected_bytes = 0
        self.at = 0.0
        """When last."""

    def add(self, other: Counts) -> None:
        """Takes the other ones in."""
        self.requests += other.requests
        self.pulls += other.pulls
        self.sent_bytes += other.sent_bytes
        self.redirected_bytes += other.redirected_bytes
        self.at = max(self.at, other.at)


Asked = tuple[str, ActorKind, str | None, Digest | None]
"""A repository's full name, who asked, and the tag and the manifest's digest if it was about one."""

_Memory = dict[tuple[int, Asked], Counts]
"""By day, too. One place in it for a request: days, manifests and tags are told apart when they are written."""


class Pulls:
    """Of one process. What it has not written when it is killed is lost: the last few seconds."""

    __slots__ = ("_database", "_deferred", "_memory", "_new")

    def __init__(self, database: Database, *, interval_s: float) -> None:
        self._database = database
        self._deferred = Deferred(self.flush, seconds=interval_s)
        self._memory: _Memory = {}
        self._new: list[tuple[Asked, float, int, int, int]] = []

    def add(self, asked: Asked, pulls: int, sent_bytes: int = 0, redirected_bytes: int = 0) -> None:
        """Counts one request: whether it was a pull (1 or 0), and the bytes that it gave out."""
        new = self._new
        new.append((asked, time.time(), pulls, sent_bytes, redirected_bytes))
        if len(new) == 1:
            self._deferred.want()
        if len(new) >= _TOGETHER:
            self._make_room()
            self._add_up()

    def _make_room(self) -> None:
        if len(self._memory) >= _MOST:
            _log.warning("Pulls since the last %d different ones are not counted: the catalogue is away", _MOST)
            self._memory = {}

    def _add_up(self) -> None:
        new, self._new = self._new, []
        memory = self._memory
        for asked, at, pulls_, sent_bytes, redirected_bytes in new:
            key = (int(at) // _DAY_S, asked)
            found = memory.get(key)
            if found is None:
                found = memory[key] = Counts()
            found.requests += 1
            found.pulls += pulls_
            found.sent_bytes += sent_bytes
            found.redirected_bytes += redirected_bytes
            found.at = at
        if len(memory) >= _MANY:
            self._deferred.hurry()

    async def close(self) -> None:
        """Writes what is left."""
        await self._deferred.close()

    async def flush(self) -> bool:
        """Writes what is remembered, and tells whether it has to be tried again."""
        self._add_up()
        entries, self._memory = list(self._memory.items()), {}
        for at in range(0, len(entries), _AT_ONCE):
            if not await self._write(dict(entries[at : at + _AT_ONCE])):
                self._keep(dict(entries[at:]))
                return True
        return False

    async def _write(self, memory: _Memory) -> bool:
        """In a transaction of its own. Whether that is done with, well or not."""
        written = False

        async def write(tx: Transaction) -> None:
            nonlocal written
            written = False
            await pulls.add_pulls(tx, days=_days(memory), manifests=_manifests(memory), tags=_tags(memory))
            written = True

        try:
            await self._database.transact(write)
        except UnavailableError as error:
            _log.warning("Pulls were not counted%s: %s", "" if written else " yet", error)
            return written  # then nobody knows whether the commit came through: nothing is counted twice
        return True

    def _keep(self, older: _Memory) -> None:
        newer, self._memory = self._memory, older
        for key, counts in newer.items():
            older.setdefault(key, Counts()).add(counts)


async def forget_ended_tags(database: Database, *, age: timedelta, page: int = 1000, pause_s: float = 0.1) -> int:
    """How many tags' pulls went that ended longer ago. Page by page, with rest between them: nobody waits for it."""
    after, forgotten = (-1, -1, ""), 0
    look = functools.partial(pulls.forget_tag_pulls, age=age, limit=page)
    while row := await database.transact(functools.partial(look, after=after)):
        after, forgotten = row[:3], forgotten + row.forgotten
        await asyncio.sleep(pause_s)
    return forgotten


Key = TypeVar("Key")


def _added_up(parts: Iterable[tuple[Key, Counts]]) -> dict[Key, Counts]:
    found: dict[Key, Counts] = {}
    for key, counts in parts:
        total = found.get(key)
        if total is None:
            total = found[key] = Counts()
        total.add(counts)
    return found


def _days(memory: _Memory) -> list[DailyPulls]:
    found = _added_up(((name, day, kind), counts) for (day, (name, kind, _, _)), counts in memory.items())
    return [
        DailyPulls(
            *_split(name),
            datetime.fromtimestamp(day * _DAY_S, UTC).date(),
            kind,
            counts.requests,
            counts.pulls,
            counts.sent_bytes,
            counts.redirected_bytes,
        )
        for (name, day, kind), counts in found.items()
    ]


def _manifests(memory: _Memory) -> list[ManifestPulls]:
    found = _added_up(
        ((name, digest), counts)
        for (_, (name, _, _, digest)), counts in memory.items()
        if digest is not None and counts.pulls
    )
    return [
        ManifestPulls(*_split(name), digest, counts.pulls, datetime.fromtimestamp(counts.at, UTC))
        for (name, digest), counts in found.items()
    ]


def _tags(memory: _Memory) -> list[TagPulls]:
    found = _added_up(((name, tag), counts) for (_, (name, _, tag, _)), counts in memory.items() if tag is not None)
    return [
        TagPulls(*_split(name), tag, counts.pulls, datetime.fromtimestamp(counts.at, UTC))
        for (name, tag), counts in found.items()
    ]


def _split(name: str) -> tuple[str, str]:
    tenant, _, path = name.partition("/")
    return tenant, path
