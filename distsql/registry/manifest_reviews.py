"""A look at manifests that may be garbage: a round looks at entries of the queue, releases, deletes and settles.

Each in a transaction of its own, for all of it in one would lock more than twenty relations. Entries stay in the queue
until the last of them, which forgets them: killed anywhere in between, the next round looks at them again. Only the
transaction that deletes has to be sure, so it locks, and judges again.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, Protocol, TypeVar

from distsql.registry.reviews import Key, Pace, Periods, Reviewed, key_of, settle, younger
from distsql.sql import content_events, garbage_manifests, garbage_queue, manifest_deletions, manifest_purges
from distsql.sql.content_events import RepositoryNames
from distsql.sql.garbage_manifests import FollowerRow, LockedManifestRow
from distsql.sql.garbage_queue import QueuedRow
from distsql.sql.manifest_deletions import ManifestKeyRow, PlacedManifestRow
from distsql.sql.transactions import Transaction
from distsql.values import Caller

MOST_MANIFESTS: Final = 200
"""With all that they refer to."""

SOON_S: Final = 5
"""The grace of what a manifest needs is counted from just before its deletion: so much, at most."""

Result = TypeVar("Result")


class Transact(Protocol):
    """Runs the work in a transaction of its own."""

    def __call__(self, work: Callable[[Transaction], Awaitable[Result]]) -> Awaitable[Result]: ...


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Manifests that seem to be garbage, and how that is made sure of.

    ``entry`` says which entry a manifest belongs to, ``wait`` which entries have to wait after all, and from when on:
    of manifests that nothing holds, given with the instant at which their last tag left them.
    """

    keys: Sequence[ManifestKeyRow]
    entry: Callable[[LockedManifestRow], Key]
    wait: Callable[[Mapping[LockedManifestRow, datetime | None]], dict[Key, datetime]]
    following: bool


@dataclass(frozen=True, slots=True)
class _Deleted:
    """What went, and which of the candidates somebody works with; entries that wait, and from when on."""

    gone: Sequence[ManifestKeyRow] = ()
    busy: frozenset[ManifestKeyRow] = frozenset()
    since: Mapping[Key, datetime] = field(default_factory=dict)


class ManifestReview:
    """Rounds for each kind of entry that is about manifests. One that somebody works with is put off, never waited for.

    What it needs is waited for, where somebody deletes or mounts just that, so as to begin its grace.
    """

    def __init__(self, transact: Transact, caller: Caller, periods: Periods, pace: Pace) -> None:
        self._transact = transact
        self._caller = caller
        self._periods = periods
        self._batch = pace.batch
        self._at_once = min(pace.batch, MOST_MANIFESTS)

    async def manifests(self) -> Reviewed:
        """Manifests without tag, parent and subject, for the grace period, where they are to be collected.

        What a tag left stays for as long as the tag can go back.
        """
        rows, wanted, since = await self._transact(self._look_at_manifests)
        if not rows:
            return Reviewed(0)
        keys = [ManifestKeyRow(row.tenant_id, row.repository_id, row.digest) for row in wanted if row.digest]
        deleted = await self._delete(_Candidates(keys, _itself, partial(self._young, rows), following=False))
        if deleted is None:
            return Reviewed(len(rows))
        await self._settle(rows, deleted, busy=deleted.busy, since={**since, **deleted.since})
        return Reviewed(len(rows), len(deleted.gone))

    async def followers(self) -> Reviewed:
        """Referrers of what was deleted the grace period ago, unless something else holds them."""
        rows, found = await self._transact(self._look_at_followers)
        if not rows:
            return Reviewed(0)
        keys = [row.key for row in found]
        deleted = await self._delete(_Candidates(keys, _subject, partial(_promised, rows), following=True))
        if deleted is None:
            return Reviewed(len(rows))
        if len(found) < self._at_once:
            busy = {_subject(row) for row in found if row.key in deleted.busy}
            await self._settle(rows, deleted, busy=busy, since=deleted.since)
        elif deleted.gone:  # there may be more, at once
            await self._settle([], deleted)
        else:  # ... but these are in their way
            await self._settle(rows, deleted, busy={key_of(row) for row in rows}, since=deleted.since)
        return Reviewed(len(rows), len(deleted.gone))

    async def deleted_manifests(self) -> Reviewed:
        """Rows of manifests that can't be restored any more, and then what they kept."""
        restore = self._periods.restore

        async def look(tx: Transaction) -> list[QueuedRow]:
            return await garbage_queue.take_queued(tx, "deleted_manifest", delay=restore, limit=self._batch)

        async def release(tx: Transaction) -> None:
            manifest_purges.release_kept(tx, rows, restore_period=restore)
            garbage_queue.finish_queued(tx, rows)

        rows = await self._transact(look)
        if not rows:
            return Reviewed(0)
        gone = await self._transact(partial(manifest_purges.purge_manifests, rows=rows, restore_period=restore))
        await self._transact(release)
        return Reviewed(len(rows), gone)

    # -- looking ------------------------------------------------------------------------------------------------------

    async def _look_at_manifests(self, tx: Transaction) -> tuple[list[QueuedRow], list[QueuedRow], dict[Key, datetime]]:
        """Entries, those of them whose manifests seem to be garbage, and those whose time has not come."""
        rows = await garbage_queue.take_queued(tx, "manifest", delay=self._periods.grace, limit=self._batch)
        if not rows:
            return [], [], {}
        # Most repositories keep their untagged manifests.
        found = await garbage_manifests.judge_manifests(tx, rows, restore_period=self._periods.restore)
        unneeded = {key_of(row): self._held_until(row.pushed_at, row.untagged_at) for row in found if not row.needed}
        since = younger(rows, unneeded)
        candidates = unneeded.keys() - since.keys()
        wanted = [row for row in rows if key_of(row) in candidates][: self._at_once]
        return [row for row in rows if key_of(row) not in candidates] + wanted, wanted, since

    async def _look_at_followers(self, tx: Transaction) -> tuple[list[QueuedRow], list[FollowerRow]]:
        """Entries, and referrers that seem to be garbage by them."""
        rows = await garbage_queue.take_queued(tx, "subject", delay=self._periods.grace, limit=self._at_once)
        return rows, await garbage_manifests.list_unheld_followers(tx, rows, limit=self._at_once) if rows else []

    def _held_until(self, pushed_at: datetime, untagged_at: datetime | None) -> datetime:
        """The instant from which the grace is counted."""
        if untagged_at is None:
            return pushed_at
        return max(pushed_at, untagged_at + self._periods.restore - self._periods.grace)

    def _young(
        self, rows: Sequence[QueuedRow], unheld: Mapping[LockedManifestRow, datetime | None]
    ) -> dict[Key, datetime]:
        return younger(rows, {row.key: self._held_until(row.pushed_at, left_at) for row, left_at in unheld.items()})

    # -- deleting -----------------------------------------------------------------------------------------------------

    async def _delete(self, candidates: _Candidates) -> _Deleted | None:
        """Deletes what is garbage indeed. None when it took so long that all has to be looked at again."""
        if not candidates.keys:
            return _Deleted()
        begun = time.monotonic()
        names = await self._transact(partial(_release, candidates.keys))

        async def work(tx: Transaction) -> _Deleted | None:
            locked = await garbage_manifests.lock_candidates(tx, candidates.keys)
            # Behind the other servers' transactions, which may have kept it waiting.
            late = time.monotonic() - begun > SOON_S
            return None if late else await self._delete_locked(tx, candidates, locked, names)

        return await self._transact(work)

    async def _delete_locked(
        self, tx: Transaction, candidates: _Candidates, locked: Sequence[LockedManifestRow], names: RepositoryNames
    ) -> _Deleted:
        held = await garbage_manifests.judge_locked(tx, locked, restore_period=self._periods.restore)
        unheld = {row: held[row.key].untagged_at for row in locked if not held[row.key].needed}
        since = candidates.wait(unheld)
        chosen = [PlacedManifestRow(*row.key, row.place) for row in unheld if candidates.entry(row) not in since]
        gone = await manifest_deletions.delete_manifests(
            tx, chosen, actor=self._caller.actor, following=candidates.following
        )
        content_events.insert_named_events(tx, "garbage.manifest", caller=self._caller, contents=gone, names=names)
        return _Deleted(gone, frozenset(candidates.keys) - {row.key for row in locked}, since)

    async def _settle(
        self,
        rows: Sequence[QueuedRow],
        deleted: _Deleted,
        *,
        busy: Collection[Key] = (),
        since: Mapping[Key, datetime] | None = None,
    ) -> None:
        """Ends the round. Signatures of what a killed one deleted are seen to with its entries."""
        keys = {ManifestKeyRow(row.tenant_id, row.repository_id, row.digest) for row in rows if row.digest}

        async def work(tx: Transaction) -> None:
            await manifest_deletions.take_signatures(tx, sorted(keys.union(deleted.gone), key=_order))
            settle(tx, rows, busy=busy, since=since or {})

        await self._transact(work)


async def _release(keys: Sequence[ManifestKeyRow], tx: Transaction) -> RepositoryNames:
    """The grace of what they need begins again; and for the audit, what their repositories are called."""
    manifest_deletions.release_layers(tx, keys)
    return await content_events.list_repository_names(tx, {(key.tenant_id, key.repository_id) for key in keys})


def _itself(row: LockedManifestRow) -> Key:
    return row.key


def _subject(row: LockedManifestRow | FollowerRow) -> Key:
    return row.tenant_id, row.repository_id, row.subject_digest


def _order(key: ManifestKeyRow) -> tuple[int, int, bytes]:
    return key.tenant_id, key.repository_id, key.digest.packed


def _promised(rows: Sequence[QueuedRow], unheld: Mapping[LockedManifestRow, datetime | None]) -> dict[Key, datetime]:
    """Subjects with a referrer that somebody was told of since: it stays for the grace, and the others with it."""
    promised: dict[Key, datetime] = {}
    for row in unheld:
        if row.promised_at is not None:
            promised[_subject(row)] = max(row.promised_at, promised.get(_subject(row), row.promised_at))
    return younger(rows, promised)
