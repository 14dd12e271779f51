"""Garbage: content that nothing refers to goes, rows before bytes; safe beside pushes, and to be killed anywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

from distsql.bytestore.contract import Staged
from distsql.errors import NameUnknownError
from distsql.registry.context import Backend
from distsql.registry.orphans import find_orphans
from distsql.sql import audit, deletions, garbage
from distsql.sql.database import Transaction
from distsql.sql.deletions import DeletedRow
from distsql.sql.garbage import ContentRow, KeyRow
from distsql.sql.uploads import EndedUploadRow
from distsql.values import Caller

_BATCH: Final = 100

Notify = Callable[[str, int], None]
"""Hears what was done (``manifests``, ``blobs`` ...) and how many of it."""

Result = TypeVar("Result")


@dataclass(slots=True)
class Collected:
    """What a run removed, or in a dry run would remove. ``freed_bytes`` are those of blobs and orphans.

    ``tenants`` and ``repositories`` were deleted longer ago than the grace, as were some of the ``manifests``.
    """

    uploads: int = 0
    tenants: int = 0
    repositories: int = 0
    manifests: int = 0
    layers: int = 0
    blobs: int = 0
    orphans: int = 0
    freed_bytes: int = 0


class _DryRunOver(Exception):
    """Rolls back what a dry run did."""


class GarbageCollector:
    """One run over everything. A plain one: its work grows with the registry, not with what changed.

    A dry run does all of it in one transaction that is rolled back: what it says is what a run would do.
    """

    def __init__(self, backend: Backend, caller: Caller, *, grace: timedelta, notify: Notify) -> None:
        self._backend = backend
        self._caller = caller
        self._grace = grace
        self._notify = notify
        self._collected = Collected()
        self._dry: Transaction | None = None

    async def run(self) -> Collected:
        """Collects everything that has been garbage for the grace period."""
        await self._collect()
        return self._collected

    async def dry_run(self) -> Collected:
        """Finds what `run` would remove, and changes nothing."""
        try:
            async with self._backend.everything.transaction() as tx:
                self._dry = tx
                await self._collect()
                raise _DryRunOver
        except _DryRunOver:
            return self._collected

    async def _collect(self) -> None:
        found = self._collected
        found.uploads += await self._repeat("uploads", self._end_uploads)
        mark = partial(deletions.mark_repositories_of_deleted_tenants, grace=self._grace, limit=_BATCH)
        await self._repeat("rows", partial(self._transact, mark))
        await self._purge_repositories()
        found.manifests += await self._repeat("manifests", self._purge_manifests)
        # What a manifest needed may be garbage with it: children and referrers go in later rounds of the same loop.
        found.manifests += await self._repeat("manifests", self._delete_manifests)
        found.layers += await self._repeat("layers", self._delete_layers)
        await self._repeat("condemned", self._condemn_blobs)
        await self._delete_bytes()
        with suppress(NameUnknownError):  # written to by somebody who had found it before: the next run
            found.tenants += await self._transact(partial(deletions.purge_tenants, grace=self._grace))
        await self._delete_orphans()

    async def _repeat(self, what: str, step: Callable[[], Awaitable[int]]) -> int:
        total = 0
        while count := await step():
            self._notify(what, count)
            total += count
        return total

    async def _transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Runs the work in a transaction of its own, or in that of the dry run."""
        return await (work(self._dry) if self._dry else self._backend.everything.transact(work))

    async def _end_uploads(self) -> int:
        return await self._forget(await self._transact(lambda tx: garbage.delete_expired_uploads(tx, limit=_BATCH)))

    async def _forget(self, ended: Sequence[EndedUploadRow]) -> int:
        for upload in ended if not self._dry else ():
            await self._backend.store.abort(Staged(upload.store_key, upload.offset_bytes, upload.store_state))
        return len(ended)

    async def _purge_repositories(self) -> None:
        after = (-1, 0)
        while page := await self._transact(
            partial(deletions.list_deleted_repositories, grace=self._grace, after=after, limit=_BATCH)
        ):
            for repository in page:
                await self._purge_repository(repository)
            after = page[-1]

    async def _purge_repository(self, repository: DeletedRow) -> None:
        """A repository of any size, a batch of its rows in each transaction."""

        async def purge_uploads() -> int:
            return await self._forget(
                await self._transact(partial(deletions.purge_repository_uploads, repository=repository, limit=_BATCH))
            )

        self._collected.uploads += await self._repeat("uploads", purge_uploads)
        for purge in deletions.PURGED_TABLES:
            work = partial(deletions.purge_repository_rows, purge=purge, repository=repository, limit=_BATCH)
            await self._repeat("rows", partial(self._transact, work))
        with suppress(NameUnknownError):  # written to by somebody who had found it before: the next run
            await self._transact(partial(deletions.purge_repository, repository=repository))
            self._collected.repositories += 1

    async def _purge_manifests(self) -> int:
        return await self._transact(partial(deletions.purge_manifests, grace=self._grace, limit=_BATCH))

    async def _delete_manifests(self) -> int:
        async def work(tx: Transaction) -> int:
            candidates = await garbage.lock_garbage_manifests(tx, grace=self._grace, limit=_BATCH)
            deleted = await garbage.delete_garbage_manifests(tx, candidates, grace=self._grace)
            self._audit(tx, "garbage.manifest", candidates, deleted)
            return len(deleted)

        return await self._transact(work)

    async def _delete_layers(self) -> int:
        async def work(tx: Transaction) -> int:
            candidates = await garbage.lock_garbage_layers(tx, grace=self._grace, limit=_BATCH)
            deleted = await garbage.delete_garbage_layers(tx, candidates, grace=self._grace)
            self._audit(tx, "garbage.layer", candidates, deleted)
            return len(deleted)

        return await self._transact(work)

    def _audit(self, tx: Transaction, action: str, candidates: Sequence[ContentRow], deleted: Sequence[KeyRow]) -> None:
        names = {(row.tenant_id, row.repository_id): row.repository for row in candidates}
        for row in deleted:
            audit.insert_audit_events(
                tx,
                row.tenant_id,
                action,
                caller=self._caller,
                repository=names[row.tenant_id, row.repository_id],
                digest=row.digest,
            )

    async def _condemn_blobs(self) -> int:
        async def work(tx: Transaction) -> int:
            return len(await garbage.condemn_blobs(tx, await garbage.lock_garbage_blobs(tx, limit=_BATCH)))

        return await self._transact(work)

    async def _delete_bytes(self) -> None:
        """Bytes of what is committed to be condemned; then the rows, unless somebody pushed them again meanwhile."""
        after = (-1, b"")
        while page := await self._transact(partial(garbage.list_condemned_blobs, after=after, limit=_BATCH)):
            if not self._dry:
                for blob in page:
                    await self._backend.store.delete(blob.store_key)
                await self._transact(partial(garbage.delete_condemned_blobs, blobs=page))
            self._notify("blobs", len(page))
            self._collected.blobs += len(page)
            self._collected.freed_bytes += sum(blob.length for blob in page)
            after = (page[-1].tenant_id, page[-1].digest.packed)

    async def _delete_orphans(self) -> None:
        store = self._backend.store
        async for orphan in find_orphans(self._backend, grace=self._grace):
            if not self._dry:
                await (store.delete(orphan.key) if orphan.complete else store.abort(Staged(orphan.key)))
            self._notify("orphans", 1)
            self._collected.orphans += 1
            self._collected.freed_bytes += orphan.length
