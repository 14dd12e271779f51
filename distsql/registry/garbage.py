"""Garbage: what nothing needs goes, rows before bytes; beside pushes, and to be killed anywhere.

A run looks at what became unreferenced since, which the transactions that did it have queued: its work grows with what
changed, never with the registry. Each batch is a transaction of its own, and one at a time over all servers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Final, TypeVar

from distsql.bytestore.contract import Staged
from distsql.bytestore.placement import name_of
from distsql.errors import DistsqlError, StoreUnavailableError
from distsql.registry.context import Backend
from distsql.registry.forecasts import Forecast
from distsql.registry.manifest_reviews import ManifestReview
from distsql.registry.orphans import find_orphans
from distsql.registry.purges import Purge
from distsql.registry.reviews import AT_ONCE, Pace, Periods, Review, Reviewed
from distsql.sql import audit, garbage, sweeps, upload_expiry
from distsql.sql.garbage import CondemnedBytesRow
from distsql.sql.tables import SERVER_TENANT_ID
from distsql.sql.transactions import Transaction
from distsql.values import Caller

_BATCH: Final = 500
_DELETED_AT_ONCE: Final = 16
_RETRY_S: Final = 60

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
    """One run, at this pace. ``patient`` waits for other servers' batches, else `CollectingElsewhereError` ends it."""

    def __init__(
        self,
        backend: Backend,
        caller: Caller,
        *,
        periods: Periods,
        notify: Notify,
        pace: Pace = AT_ONCE,
        patient: bool = True,
    ) -> None:
        self._backend = backend
        self._caller = caller
        self._periods = periods
        self._notify = notify
        self._patient = patient
        self._pace = pace
        self._review = Review(caller, periods, pace)
        self._manifests = ManifestReview(self._transact, caller, periods, pace)
        self._purge = Purge(self._transact, periods, self._count)
        self._away: dict[str, str] = {}  # stores that didn't answer in this run, and what was wrong
        self.collected = Collected()

    async def command(self, *, full: bool = False) -> Collected:
        """`run`, because somebody said so: the audit has who, and afterwards what came of it."""
        await self._backend.everything.transact(partial(self._audit, told="full" if full else "what is queued"))
        collected = await self.run(full=full)
        told = ", ".join(f"{number} {what}" for what, number in asdict(collected).items() if number)
        await self._backend.everything.transact(partial(self._audit, told=told or "nothing"))
        return collected

    async def _audit(self, tx: Transaction, *, told: str) -> None:
        audit.insert_audit_events(
            tx, SERVER_TENANT_ID, "garbage.collect", caller=self._caller, repository=None, references=[told]
        )

    async def run(self, *, full: bool = False) -> Collected:
        """Collects what has been garbage for its time. ``full`` looks at everything, also at every stored object.

        `StoreUnavailableError` when all is done but what a store has that doesn't answer.
        """
        await self._transact(self._write_periods)
        if full:
            await self._queue_everything()
        await self._repeat("uploads", self._alone(self._end_uploads))
        await self._purge.repositories_of_tenants()
        await self._purge.repositories()
        await self._repeat("purged", self._manifests.deleted_manifests)
        await self._repeat("rows", self._alone(self._review.new_collectors))
        await self._repeat("manifests", self._manifests.followers)
        # What a manifest needed may be garbage with it: children and referrers go in later rounds of the same loop.
        await self._repeat("manifests", self._manifests.manifests)
        await self._repeat("manifests", self._manifests.followers)
        await self._repeat("purged", self._manifests.deleted_manifests)
        await self._repeat("layers", self._review_layers)
        await self._repeat("blobs", self._alone(self._review.blobs))
        await self._delete_bytes()
        await self._purge.tenants()
        self._tell_who_was_away()
        if full:
            await self._delete_orphans()
        return self.collected

    async def dry_run(self) -> Collected:
        """What `run` would remove now, all but orphans; in reads that lock nothing."""
        found = await Forecast(self._backend.everything, self._periods).run()
        return Collected(**found._asdict())

    async def _transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Runs the work in a transaction of its own, while no other server's does; and rests."""

        async def alone(tx: Transaction) -> Result:
            if self._patient:
                await garbage.wait_to_collect(tx)
            elif not await garbage.try_collecting(tx):
                raise CollectingElsewhereError("Another server collects garbage just now")
            return await work(tx)

        started = time.monotonic()
        result = await self._backend.everything.transact(alone)
        if self._pace.rest:
            await asyncio.sleep(self._pace.rest * (time.monotonic() - started))
        return result

    def _alone(self, step: Callable[[Transaction], Awaitable[Reviewed]]) -> Callable[[], Awaitable[Reviewed]]:
        """A round that is one transaction."""
        return lambda: self._transact(step)

    async def _repeat(self, what: str, round_: Callable[[], Awaitable[Reviewed]]) -> None:
        while (reviewed := await round_()).looked_at:
            self._count(what, reviewed.removed)

    async def _review_layers(self) -> Reviewed:
        rows, names = await self._transact(self._review.take_layers)
        return await self._transact(partial(self._review.layers, rows=rows, names=names)) if rows else Reviewed(0)

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
        """Bytes of what is committed to be condemned, and then the rows that say so.

        A store that is away keeps its own waiting, for another run, and nobody else's.
        """
        while page := await self._transact(self._list_bytes):
            gone: list[CondemnedBytesRow] = []
            for at in range(0, len(page), _DELETED_AT_ONCE):
                batch = [row for row in page[at : at + _DELETED_AT_ONCE] if _store_of(row) not in self._away]
                deleted = await asyncio.gather(*map(self._delete, batch))
                gone += [row for row, done in zip(batch, deleted, strict=True) if done]
            await self._transact(partial(garbage.forget_condemned_bytes, rows=gone))
            self._notify("bytes", sum(row.length for row in gone))
            self.collected.freed_bytes += sum(row.length for row in gone)

    async def _list_bytes(self, tx: Transaction) -> list[CondemnedBytesRow]:
        return await garbage.list_condemned_bytes(
            tx, window=self._periods.recovery, away=sorted(self._away), limit=_BATCH
        )

    async def _delete(self, row: CondemnedBytesRow) -> bool:
        """Whether they are gone."""
        store = self._backend.store
        try:
            if row.complete:
                await store.delete(row.store_key)
            else:
                await store.abort(Staged(row.store_key, row.length, row.store_state or {}))
        except StoreUnavailableError as error:
            self._away[_store_of(row)] = str(error)
            return False
        return True

    def _tell_who_was_away(self) -> None:
        if self._away:
            told = "; ".join(f"{name or 'the settings'}: {problem}" for name, problem in sorted(self._away.items()))
            raise StoreUnavailableError(
                f"Collected everything but bytes in stores that are away, which a later run deletes ({told})",
                retry_after=_RETRY_S,
            )

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


def _store_of(row: CondemnedBytesRow) -> str:
    """The name in front of its key, nothing for the store of the settings."""
    return name_of(row.store_key) or ""
