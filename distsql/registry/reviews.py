"""A look at what may be garbage: batches of the queue, each in one transaction that locks, judges and removes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from distsql.oci.digest import Digest
from distsql.sql import content_events, garbage, garbage_manifests, garbage_queue
from distsql.sql.content_events import RepositoryNames
from distsql.sql.garbage import BlobKeyRow
from distsql.sql.garbage_manifests import JudgedManifestRow
from distsql.sql.garbage_queue import QueuedRow
from distsql.sql.transactions import Transaction
from distsql.values import Caller

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
        self._caller = caller
        self._periods = periods

    async def take_layers(self, tx: Transaction) -> tuple[list[QueuedRow], RepositoryNames]:
        """Blobs of repositories that may be garbage, for `layers`, and what the repositories are called."""
        rows = await garbage_queue.take_queued(tx, "layer", delay=self._periods.grace, limit=self._batch)
        keys = {(row.tenant_id, row.repository_id) for row in rows}
        return rows, await content_events.list_repository_names(tx, keys) if rows else {}

    async def layers(self, tx: Transaction, *, rows: Sequence[QueuedRow], names: RepositoryNames) -> Reviewed:
        """Blobs of repositories that no manifest there refers to, for the grace period."""
        locked = await garbage.lock_layers(tx, rows)
        judged = {key_of(row): row for row in await garbage.judge_layers(tx, rows)}
        # The instant of the entries is older than the grace.
        unneeded = {key: row for key, row in judged.items() if key in locked and not row.needed}
        young = younger(rows, {key: row.needed_at for key, row in unneeded.items()})
        gone = await garbage.delete_garbage_layers(tx, [row for key, row in unneeded.items() if key not in young])
        content_events.insert_named_events(tx, "garbage.layer", caller=self._caller, contents=gone, names=names)
        settle(tx, rows, busy=judged.keys() - locked, since=young)
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

    async def new_collectors(self, tx: Transaction) -> Reviewed:
        """Untagged manifests of tenants and repositories that begin to collect them."""
        # Who had read the old setting before it wrote has committed by then.
        delay = min(self._periods.grace, _LONGEST_WRITE)
        rows = await garbage_queue.take_queued(tx, "untagged", delay=delay, limit=1)
        for row in rows:
            garbage_manifests.queue_untagged_manifests(tx, tenant_id=row.tenant_id, repository_id=row.repository_id)
        garbage_queue.finish_queued(tx, rows)
        return Reviewed(len(rows))


def key_of(row: QueuedRow | garbage.JudgedLayerRow | JudgedManifestRow) -> Key:
    """What an entry, or what was found of it, is about."""
    return row.tenant_id, row.repository_id, row.digest


def younger(rows: Sequence[QueuedRow], since: Mapping[Key, datetime]) -> dict[Key, datetime]:
    """Those whose time begins later than that of their entries."""
    queued = {key_of(row): row.queued_at for row in sorted(rows, key=lambda row: row.queued_at)}
    return {key: instant for key, instant in since.items() if instant > queued[key]}


def settle(tx: Transaction, rows: Sequence[QueuedRow], *, busy: Collection[Key], since: Mapping[Key, datetime]) -> None:
    """Entries that were judged are done; the others come again, from the instants of which their time is counted."""
    put_off = {key_of(row) for row in rows} & {*busy, *since}
    garbage_queue.finish_queued(tx, [row for row in rows if key_of(row) not in put_off])
    garbage_queue.put_off_queued(tx, [(row, since.get(key_of(row))) for row in rows if key_of(row) in put_off])
