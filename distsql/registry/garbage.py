"""Garbage: what nothing needs goes, rows before bytes; beside pushes, and to be killed anywhere.

A run looks at what became unreferenced since, which the transactions that did it have queued: its work grows with what
changed, never with the registry. Each batch is a transaction of its own, and one at a time over all servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Final, TypeVar

from distsql.bytestore.contract import Staged
from distsql.errors import DistsqlError
from distsql.registry.context import Backend
from distsql.registry.orphans import find_orphans
from distsql.registry.purges import Purge
from distsql.registry.reviews import Periods, Review, Reviewed
from distsql.sql import garbage, garbage_previews, sweeps, upload_expiry
from distsql.sql.database import Transaction
from distsql.sql.garbage import CondemnedBytesRow
from distsql.values import Caller

_BATCH: Final = 500
_DELETED_AT_ONCE: Final = 16

Notify = Callable[[str, int], None]
"""Hears what was done (``manifests``, ``blobs`` ...) and how many of it."""

Result = TypeVar("Result")


@dataclass(slots=True)
class Collected:
    """What a run removed, or in a dry run would remove. ``freed_bytes`` are those of blobs, uploads and orphans.

    ``manifests`` were deleted by this run; rows of what was deleted before are ``purged``. ``layers`` are blobs that
    left a repository, ``blobs`` those that nothing needs any more: with a recovery window their bytes go later.
    """

    uploads: int = 0
    tenants: int = 0
    repositories: int = 0
    manifests: int = 0
    purged: int = 0
    layers: int = 0
    blobs: int = 0
    orphans: int = 0
    freed_bytes: int = 0


class CollectingElsewhereError(DistsqlError):
    """Another server collects garbage just now, so this one need not."""


class GarbageCollector:
    """One run. ``patient`` waits for other servers' batches; else `CollectingElsewhereError` ends the run early."""

    def __init__(
        self, backend: Backend, caller: Caller, *, periods: Periods, notify: Notify, patient: bool = True
    ) -> None:
        self._backend = backend
        self._periods = periods
        self._notify = notify
        self._patient = patient
        self._review = Review(caller, periods)
        self._purge = Purge(self._transact, periods, self._count)
        self.collected = Collected()

    async def run(self, *, full: bool = False) -> Collected:
        """Collects what has been garbage for its time. ``full`` looks at everything, also at every stored object."""
        await self._transact(self._write_periods)
        if full:
            await self._queue_everything()
        await self._repeat("uploads", self._end_uploads)
        await self._purge.repositories_of_tenants()
        await self._purge.repositories()
        review = self._review
        for what, step in (
            ("purged", review.deleted_manifests),
            ("rows", review.new_collectors),
            ("manifests", review.followers),
            # What a manifest needed may be garbage with it: children and referrers go in later rounds of the same loop.
            ("manifests", review.manifests),
            ("manifests", review.followers),
            ("purged", review.deleted_manifests),
            ("layers", review.layers),
            ("blobs", review.blobs),
        ):
            await self._repeat(what, step)
        await self._delete_bytes()
        await self._purge.tenants()
        if full:
            await self._delete_orphans()
        return self.collected

    async def dry_run(self) -> Collected:
        """What `run` would remove now, in one read that locks nothing; all but orphans."""
        periods = self._periods
        found = await self._backend.everything.read(
            garbage_previews.preview_collection,
            grace=periods.grace,
            restore_period=periods.restore,
            recovery_window=periods.recovery,
        )
        return Collected(**found._asdict())

    async def _transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Runs the work in a transaction of its own, while no other server's does."""

        async def alone(tx: Transaction) -> Result:
            if self._patient:
                await garbage.wait_to_collect(tx)
            elif not await garbage.try_collecting(tx):
                raise CollectingElsewhereError("Another server collects garbage just now")
            return await work(tx)

        return await self._backend.everything.transact(alone)

    async def _repeat(self, what: str, step: Callable[[Transaction], Awaitable[Reviewed]]) -> None:
        while (reviewed := await self._transact(step)).looked_at:
            self._count(what, reviewed.removed)

    def _count(self, what: str, number: int) -> None:
        if number:
            self._notify(what, number)
        if any(field.name == what for field in fields(Collected)):
            setattr(self.collected, what, getattr(self.collected, what) + number)

    async def _write_periods(self, tx: Transaction) -> None:
        periods = self._periods
        garbage.set_periods(tx, grace=periods.grace, restore_period=periods.restore, recovery_window=periods.recovery)

    async def _end_uploads(self, tx: Transaction) -> Reviewed:
        ended = await upload_expiry.delete_expired_uploads(tx, limit=_BATCH)
        return Reviewed(len(ended), len(ended))

    # -- bytes --------------------------------------------------------------------------------------------------------

    async def _delete_bytes(self) -> None:
        """Bytes of what is committed to be condemned, and then the rows that say so."""
        work = partial(garbage.list_condemned_bytes, window=self._periods.recovery, limit=_BATCH)
        while page := await self._transact(work):
            for at in range(0, len(page), _DELETED_AT_ONCE):
                await asyncio.gather(*map(self._delete, page[at : at + _DELETED_AT_ONCE]))
            await self._transact(partial(garbage.forget_condemned_bytes, rows=page))
            self._notify("bytes", sum(row.length for row in page))
            self.collected.freed_bytes += sum(row.length for row in page)

    async def _delete(self, row: CondemnedBytesRow) -> None:
        store = self._backend.store
        if row.complete:
            await store.delete(row.store_key)
        else:
            await store.abort(Staged(row.store_key, row.length, row.store_state or {}))

    # -- everything ---------------------------------------------------------------------------------------------------

    async def _queue_everything(self) -> None:
        """What servers of earlier versions left unqueued."""
        after = (-1, 0)
        while page := await self._backend.everything.read(sweeps.list_swept_repositories, after=after, limit=20):
            await self._transact(partial(sweeps.sweep_repositories, rows=page))
            self._notify("repositories looked at", len(page))
            after = (page[-1].tenant_id, page[-1].id)
        await self._transact(sweeps.sweep_the_rest)

    async def _delete_orphans(self) -> None:
        store = self._backend.store
        async for orphan in find_orphans(self._backend, grace=max(self._periods.grace, self._periods.recovery)):
            await (store.delete(orphan.key) if orphan.complete else store.abort(Staged(orphan.key)))
            self._count("orphans", 1)
            self.collected.freed_bytes += orphan.length
