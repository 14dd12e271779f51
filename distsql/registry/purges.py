"""Repositories and tenants that can't be restored any more: their rows go, a batch in each transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from distsql.errors import NameUnknownError
from distsql.oci.digest import Digest
from distsql.registry.reviews import Periods
from distsql.sql import deletions, garbage_queue, upload_expiry
from distsql.sql.deletions import DeletedRow, PurgedRow
from distsql.sql.garbage_queue import QueuedRow
from distsql.sql.statements import Statement
from distsql.sql.transactions import Transaction

_BATCH: Final = 500

Result = TypeVar("Result")
Transact = Callable[[Callable[[Transaction], Awaitable[object]]], Awaitable[object]]
Count = Callable[[str, int], None]


class Purge:
    """What was deleted longer ago than it can be restored. ``transact`` runs a transaction, ``count`` hears of rows."""

    def __init__(self, transact: Transact, periods: Periods, count: Count) -> None:
        self._transact = transact
        self._periods = periods
        self._count = count
        self._tenants: list[QueuedRow] = []

    async def _run(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        found: list[Result] = []

        async def remembered(tx: Transaction) -> None:
            found[:] = [await work(tx)]

        await self._transact(remembered)
        return found[0]

    async def _repeat(self, what: str, work: Callable[[Transaction], Awaitable[int]]) -> None:
        while count := await self._run(work):
            self._count(what, count)

    # -- repositories -------------------------------------------------------------------------------------------------

    async def repositories(self) -> None:
        """Every repository whose time is over. Those that somebody writes to all the same go in a later run."""
        while (entry := await self._run(self._begin)) is not None:
            repository = DeletedRow(entry.tenant_id, entry.repository_id)
            await self._repeat("uploads", partial(_purge_uploads, repository))
            await self._rows(repository, deletions.PURGED_FIRST)
            await self._manifests(repository)
            await self._rows(repository, deletions.PURGED_LAST)
            with suppress(NameUnknownError):  # written to by somebody who had found it before
                await self._run(partial(deletions.purge_repository, repository=repository))
                self._count("repositories", 1)
                await self._run(partial(_finish, entry))
                continue
            await self._run(partial(_put_off, entry))

    async def _rows(self, repository: DeletedRow, purges: Sequence[Statement[PurgedRow]]) -> None:
        for purge in purges:
            work = partial(deletions.purge_repository_rows, purge=purge, repository=repository, limit=_BATCH)
            await self._repeat("rows", work)

    async def _manifests(self, repository: DeletedRow) -> None:
        """All that are marked. One that somebody pushed since stays, and the repository with it, for a later run."""
        after: Digest | None = None
        while keys := await self._run(
            partial(deletions.list_purged_manifests, repository=repository, after=after, limit=_BATCH)
        ):
            await self._run(partial(deletions.purge_repository_manifests, keys=keys))
            self._count("rows", len(keys))
            after = keys[-1].digest

    async def _begin(self, tx: Transaction) -> QueuedRow | None:
        """An entry whose repository nobody restores from now on; entries of those that are there again are done."""
        while entries := await garbage_queue.take_queued(tx, "repository", delay=self._periods.restore, limit=1):
            entry = entries[0]
            begun = await deletions.begin_purge(
                tx,
                tenant_id=entry.tenant_id,
                repository_id=entry.repository_id,
                restore_period=self._periods.restore,
            )
            if begun is not None:
                return entry
            garbage_queue.finish_queued(tx, entries)
        return None

    # -- tenants ------------------------------------------------------------------------------------------------------

    async def repositories_of_tenants(self) -> None:
        """Repositories of tenants that were deleted the grace period ago are deleted as any others."""
        while (entry := await self._run(self._take_tenant)) is not None:
            grace = self._periods.grace
            mark = partial(deletions.mark_repositories_of_tenant, tenant_id=entry.tenant_id, grace=grace, limit=_BATCH)
            await self._repeat("rows", mark)
            self._tenants.append(entry)

    async def tenants(self) -> None:
        """Those of these tenants of which nothing is left; the others in a later run."""
        for entry in self._tenants:
            with suppress(NameUnknownError):  # written to by somebody who had found it before
                if await self._forget_tenant(entry):
                    self._count("tenants", 1)

    async def _forget_tenant(self, entry: QueuedRow) -> bool:
        """Table by table: a tenant that was deleted is never there again, so what is left goes in a later run."""
        find = partial(deletions.find_empty_tenant, tenant_id=entry.tenant_id, grace=self._periods.grace)
        gone = await self._run(find)
        if gone:
            for purge in deletions.PURGE_TENANT:
                await self._run(partial(deletions.purge_tenant_rows, purge=purge, tenant_id=entry.tenant_id))
            await self._run(partial(_finish, entry))
        return gone

    async def _take_tenant(self, tx: Transaction) -> QueuedRow | None:
        entries = await garbage_queue.take_queued(tx, "tenant", delay=self._periods.grace, limit=1)
        garbage_queue.put_off_queued(tx, [(entry, None) for entry in entries])
        return entries[0] if entries else None


async def _purge_uploads(repository: DeletedRow, tx: Transaction) -> int:
    ended = await upload_expiry.purge_repository_uploads(
        tx, tenant_id=repository.tenant_id, repository_id=repository.id, limit=_BATCH
    )
    return len(ended)


async def _finish(entry: QueuedRow, tx: Transaction) -> None:
    """In a transaction of its own, which takes fewer locks; an entry of what is gone is finished where it is found."""
    garbage_queue.finish_queued(tx, [entry])


async def _put_off(entry: QueuedRow, tx: Transaction) -> None:
    garbage_queue.put_off_queued(tx, [(entry, None)])
