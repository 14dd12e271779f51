"""What is pulled, counted in memory and written down for many pulls at once: a pull writes nothing."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from distsql.errors import UnavailableError
from distsql.oci.digest import Digest
from distsql.registry.deferring import Deferred
from distsql.sql import pulls
from distsql.sql.database import Database, Transaction
from distsql.sql.pulls import DailyPulls, ManifestPulls, TagPulls
from distsql.values import ActorKind

_log: Final = logging.getLogger("distsql")
_DAY_S: Final = 24 * 60 * 60
# Different things, until they are written ahead of their time; and what is kept at most while the catalogue is away.
_MANY: Final = 5_000
_MOST: Final = 50_000


@dataclass(slots=True)
class Counts:
    """Of one repository, day and kind of actor."""

    requests: int = 0
    pulls: int = 0
    sent_bytes: int = 0
    redirected_bytes: int = 0

    def add(self, other: Counts) -> None:
        """Takes the other ones in."""
        self.requests += other.requests
        self.pulls += other.pulls
        self.sent_bytes += other.sent_bytes
        self.redirected_bytes += other.redirected_bytes


@dataclass(slots=True)
class Last:
    """How often something was pulled, and when last."""

    pulls: int = 0
    at: float = 0.0

    def add(self, later: Last) -> None:
        """Takes the later ones in."""
        self.pulls += later.pulls
        self.at = later.at


@dataclass(slots=True)
class _Memory:
    """By the repository's full name."""

    days: dict[tuple[str, str, int], Counts] = field(default_factory=dict)
    manifests: dict[tuple[str, Digest], Last] = field(default_factory=dict)
    tags: dict[tuple[str, str], Last] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.days) + len(self.manifests) + len(self.tags)


class Pulls:
    """Of one process. What it has not written when it is killed is lost: the last few seconds."""

    __slots__ = ("_database", "_deferred", "_memory")

    def __init__(self, database: Database, *, interval_s: float) -> None:
        self._database = database
        self._deferred = Deferred(self.flush, seconds=interval_s)
        self._memory = _Memory()

    def counts(self, name: str, kind: ActorKind) -> Counts:
        """What the repository's requests of today are counted in: add to it at once, and don't keep it."""
        key = (name, kind, int(time.time()) // _DAY_S)
        found = self._memory.days.get(key)
        if found is None:
            self._make_room()
            found = self._memory.days[key] = Counts()
        return found

    def add_manifest(self, name: str, digest: Digest) -> None:
        """Remembers that the manifest was given out."""
        key = (name, digest)
        found = self._memory.manifests.get(key)
        if found is None:
            self._make_room()
            found = self._memory.manifests[key] = Last()
        found.pulls += 1
        found.at = time.time()

    def add_tag(self, name: str, tag: str, *, given: bool) -> None:
        """Remembers that the tag was asked for, and whether a manifest was given out by it."""
        key = (name, tag)
        found = self._memory.tags.get(key)
        if found is None:
            self._make_room()
            found = self._memory.tags[key] = Last()
        found.pulls += given
        found.at = time.time()

    def _make_room(self) -> None:
        self._deferred.want()
        if len(self._memory) >= _MANY:
            self._deferred.hurry()
        if len(self._memory) >= _MOST:
            _log.warning("Pulls since the last %d different ones are not counted: the catalogue is away", _MOST)
            self._memory = _Memory()

    async def close(self) -> None:
        """Writes what is left."""
        await self._deferred.close()

    async def flush(self) -> bool:
        """Writes what is remembered, and tells whether it has to be tried again."""
        memory, self._memory = self._memory, _Memory()
        if not len(memory):
            return False
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
            if not written:  # else nobody knows whether the commit came through: nothing is counted twice
                self._keep(memory)
                return True
        return False

    def _keep(self, older: _Memory) -> None:
        newer, self._memory = self._memory, older
        for day, counts in newer.days.items():
            older.days.setdefault(day, Counts()).add(counts)
        for manifest, last in newer.manifests.items():
            older.manifests.setdefault(manifest, Last()).add(last)
        for tag, last in newer.tags.items():
            older.tags.setdefault(tag, Last()).add(last)


def _days(memory: _Memory) -> list[DailyPulls]:
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
        for (name, kind, day), counts in memory.days.items()
    ]


def _manifests(memory: _Memory) -> list[ManifestPulls]:
    return [
        ManifestPulls(*_split(name), digest, last.pulls, datetime.fromtimestamp(last.at, UTC))
        for (name, digest), last in memory.manifests.items()
    ]


def _tags(memory: _Memory) -> list[TagPulls]:
    return [
        TagPulls(*_split(name), tag, last.pulls, datetime.fromtimestamp(last.at, UTC))
        for (name, tag), last in memory.tags.items()
    ]


def _split(name: str) -> tuple[str, str]:
    tenant, _, path = name.partition("/")
    return tenant, path
