"""A look at what may be garbage: batches of the queue, each in one transaction that locks, judges and removes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from distsql.oci.digest import Digest
from distsql.sql import content_events, garbage, garbage_manifests, garbage_queue, manifest_deletions
from distsql.sql.database import Transaction
from distsql.sql.garbage import BlobKeyRow
from distsql.sql.garbage_manifests import JudgedFollowerRow, JudgedManifestRow
from distsql.sql.garbage_queue import QueuedRow
from distsql.sql.manifest_deletions import ManifestKeyRow
from distsql.values import Caller

_MANIFESTS: Final = 200
"""With all that they refer to."""

_LONGEST_WRITE: Final = timedelta(minutes=2)

Key = tuple[int, int, Digest | None]


@dataclass(frozen=True, slots=True)
class Periods:
    """How long what is unreferenced stays, what is deleted can be restored, and condemned bytes are kept."""

    grace: timedelta = timedelta(hours=1)
    restore: timedelta = timedelta(days=7)
    recovery: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Pace:
    """How many entries a transaction looks at, and how long there is rest after it: so many times what it took."""

    batch: int
    rest: float


AT_ONCE: Final = Pace(batch=1000, rest=0)
"""4,000 blobs a second; a push that comes meanwhile takes three times as long at its 99th percentile."""
BESIDE_REQUESTS: Final = Pace(batch=25, rest=4)
"""A few hundred blobs a second, which pushes hardly feel."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """How many entries of the queue a step looked at, and how much of it went."""

    looked_at: int
    removed: int = 0


class Review:
    """One step for each kind of entry. What somebody works with just now is put off, never waited for."""

    def __init__(self, caller: Caller, periods: Periods, pace: Pace) -> None:
        self._batch = pace.batch
        self._manifests_at_once = min(pace.batch, _MANIFESTS)
        self._caller = caller
        self._periods = periods

    async def layers(self, tx: Transaction) -> Reviewed:
        """Blobs of repositories that no manifest there refers to, for the grace period."""
        rows = await garbage_queue.take_queued(tx, "layer", delay=self._periods.grace, limit=self._batch)
        if not rows:
            return Reviewed(0)
        locked = await garbage.lock_layers(tx, rows)
        judged = {_key(row): row for row in await garbage.judge_layers(tx, rows)}
        # The transaction's now is that of the entries: what was taken is older than the grace.
        unneeded = {key: row for key, row in judged.items() if key in locked and not row.needed}
        young = _younger(rows, {key: row.needed_at for key, row in unneeded.items()})
        gone = await garbage.delete_garbage_layers(tx, [row for key, row in unneeded.items() if key not in young])
        content_events.insert_content_events(tx, "garbage.layer", caller=self._caller, contents=gone)
        _settle(tx, rows, busy=judged.keys() - locked, since=young)
        return Reviewed(len(rows), len(gone))

    async def blobs(self, tx: Transaction) -> Reviewed:
        """Blobs that no repository has, and nothing that was deleted needs: at once."""
        rows = await garbage_queue.take_queued(tx, "blob", delay=timedelta(0), limit=self._batch)
        found = {BlobKeyRow(row.tenant_id, row.digest) for row in rows if row.digest is not None}
        keys = sorted(found, key=lambda key: (key.tenant_id, key.digest.packed))
        if not keys:
            return Reviewed(0)
        locked = await garbage.lock_blobs(tx, keys)
        judged = await garbage.judge_blobs(tx, keys)
        gone = await garbage.condemn_blobs(tx, [key for key, needed in judged.items() if key in locked and not needed])
        busy = judged.keys() - locked
        garbage_queue.finish_queued(tx, [row for row in rows if (row.tenant_id, row.digest) not in busy])
        garbage_queue.put_off_queued(tx, [(row, None) for row in rows if (row.tenant_id, row.digest) in busy])
        return Reviewed(len(rows), len(gone))

    async def manifests(self, tx: Transaction) -> Reviewed:
        """Manifests without tag, parent and subject, for the grace period, where they are to be collected.

        What a tag left stays for as long as the tag can go back.
        """
        rows = await garbage_queue.take_queued(tx, "manifest", delay=self._periods.grace, limit=self._batch)
        if not rows:
            return Reviewed(0)
        restore = self._periods.restore
        # Most repositories keep their untagged manifests: only what may go at all is locked, and judged once more.
        may_go = await garbage_manifests.judge_manifests(tx, rows, restore_period=restore)
        candidates = {_key(row) for row in may_go if not row.needed}
        wanted = [row for row in rows if _key(row) in candidates][: self._manifests_at_once]
        rows = [row for row in rows if _key(row) not in candidates] + wanted
        locked = await garbage_manifests.lock_candidates(tx, wanted) if wanted else set()
        judged = await garbage_manifests.judge_manifests(tx, wanted, restore_period=restore) if wanted else []
        unneeded = {_key(row): row for row in judged if _key(row) in locked and not row.needed}
        young = _younger(rows, {key: self._held_until(row) for key, row in unneeded.items()})
        gone = await self._delete(tx, [_manifest(row) for key, row in unneeded.items() if key not in young])
        _settle(tx, rows, busy={_key(row) for row in judged} - locked, since=young)
        return Reviewed(len(rows), gone)

    def _held_until(self, row: JudgedManifestRow) -> datetime:
        """The instant from which the grace is counted."""
        if row.untagged_at is None:
            return row.pushed_at
        return max(row.pushed_at, row.untagged_at + self._periods.restore - self._periods.grace)

    async def followers(self, tx: Transaction) -> Reviewed:
        """Referrers of what was deleted the grace period ago, unless something else holds them."""
        rows = await garbage_queue.take_queued(tx, "subject", delay=self._periods.grace, limit=self._manifests_at_once)
        if not rows:
            return Reviewed(0)
        followers = await garbage_manifests.lock_followers(tx, rows, limit=self._manifests_at_once)
        judged = await garbage_manifests.judge_followers(tx, followers)
        young = _younger_followers(rows, judged)
        gone = await self._delete(tx, [_manifest(row) for row in judged if _subject(row) not in young], following=True)
        if len(followers) < self._manifests_at_once:
            _settle(tx, rows, busy=set(), since=young)
        elif not gone:  # there may be more, but these are in their way
            _settle(tx, rows, busy={_key(row) for row in rows}, since=young)
        return Reviewed(len(rows), gone)

    async def _delete(self, tx: Transaction, keys: Sequence[ManifestKeyRow], *, following: bool = False) -> int:
        if not keys:
            return 0
        gone = await manifest_deletions.delete_manifests(tx, keys, actor=self._caller.actor, following=following)
        content_events.insert_content_events(tx, "garbage.manifest", caller=self._caller, contents=gone)
        return len(gone)

    async def deleted_manifests(self, tx: Transaction) -> Reviewed:
        """Rows of manifests that can't be restored any more."""
        rows = await garbage_queue.take_queued(tx, "deleted_manifest", delay=self._periods.restore, limit=self._batch)
        if not rows:
            return Reviewed(0)
        gone = await garbage_manifests.purge_manifests(tx, rows, restore_period=self._periods.restore)
        garbage_queue.finish_queued(tx, rows)
        return Reviewed(len(rows), gone)

    async def new_collectors(self, tx: Transaction) -> Reviewed:
        """Untagged manifests of tenants and repositories that begin to collect them."""
        # Who had read the old setting before it wrote has committed by then.
        delay = min(self._periods.grace, _LONGEST_WRITE)
        rows = await garbage_queue.take_queued(tx, "untagged", delay=delay, limit=1)
        for row in rows:
            garbage_manifests.queue_untagged_manifests(tx, tenant_id=row.tenant_id, repository_id=row.repository_id)
        garbage_queue.finish_queued(tx, rows)
        return Reviewed(len(rows))


def _key(row: QueuedRow | garbage.JudgedLayerRow | JudgedManifestRow) -> Key:
    return row.tenant_id, row.repository_id, row.digest


def _manifest(row: JudgedManifestRow | JudgedFollowerRow) -> ManifestKeyRow:
    return ManifestKeyRow(row.tenant_id, row.repository_id, row.digest)


def _younger(rows: Sequence[QueuedRow], since: dict[Key, datetime]) -> dict[Key, datetime]:
    """Those whose time begins later than that of their entries."""
    queued = {_key(row): row.queued_at for row in sorted(rows, key=lambda row: row.queued_at)}
    return {key: instant for key, instant in since.items() if instant > queued[key]}


def _subject(row: JudgedFollowerRow) -> Key:
    return row.tenant_id, row.repository_id, row.subject_digest


def _younger_followers(rows: Sequence[QueuedRow], judged: Sequence[JudgedFollowerRow]) -> dict[Key, datetime]:
    """Subjects with a referrer that somebody was told of since: it stays for the grace, and the others with it."""
    promised: dict[Key, datetime] = {}
    for row in judged:
        if row.promised_at is not None:
            promised[_subject(row)] = max(row.promised_at, promised.get(_subject(row), row.promised_at))
    return _younger(rows, promised)


def _settle(tx: Transaction, rows: Sequence[QueuedRow], *, busy: set[Key], since: dict[Key, datetime]) -> None:
    """Entries that were judged are done; the others come again, from the instants of which their time is counted."""
    put_off = {_key(row) for row in rows} & (busy | since.keys())
    garbage_queue.finish_queued(tx, [row for row in rows if _key(row) not in put_off])
    garbage_queue.put_off_queued(tx, [(row, since.get(_key(row))) for row in rows if _key(row) in put_off])
