"""What was deleted: it stays marked for a while, and then its rows go, a batch in each transaction. Statements."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Delete, Interval, Table, delete, func, select, tuple_

from distsql.sql.database import Transaction
from distsql.sql.statements import LIMIT, REPOSITORY_ID, TENANT_ID, Nothing, Statement, parameter, statement
from distsql.sql.tables import layers, manifests, repositories, tags, uploads
from distsql.sql.uploads import EndedUploadRow


class DeletedRow(NamedTuple):
    """A repository that was deleted."""

    tenant_id: int
    id: int


class PurgedRow(NamedTuple):
    """A row that is gone, or the repository that it was of."""

    repository_id: int


_BEFORE: Final = func.now() - parameter("grace", Interval())

LIST_DELETED_REPOSITORIES: Final = statement(
    "list_deleted_repositories",
    "A page of the repositories that were deleted so long ago that their rows may go.",
    select(repositories.c.tenant_id, repositories.c.id)
    .where(
        repositories.c.deleted_at <= _BEFORE,
        tuple_(repositories.c.tenant_id, repositories.c.id) > tuple_(TENANT_ID, REPOSITORY_ID),
    )
    .order_by(repositories.c.tenant_id, repositories.c.id)
    .limit(LIMIT),
    DeletedRow,
)


async def list_deleted_repositories(
    tx: Transaction, *, grace: timedelta, after: tuple[int, int], limit: int
) -> list[DeletedRow]:
    """Repositories that were deleted longer ago than the grace, behind ``after`` (tenant's id, repository's id)."""
    return await tx.all(LIST_DELETED_REPOSITORIES, grace=grace, tenant_id=after[0], repository_id=after[1], limit=limit)


def _delete_some(table: Table, *conditions: ColumnElement[bool]) -> Delete:
    key = list(table.primary_key)
    return delete(table).where(tuple_(*key).in_(select(*key).where(*conditions).limit(LIMIT)))


def _delete_some_of_repository(table: Table) -> Delete:
    return _delete_some(table, table.c.tenant_id == TENANT_ID, table.c.repository_id == REPOSITORY_ID)


PURGE_REPOSITORY_UPLOADS: Final = statement(
    "purge_repository_uploads",
    "Sessions of a deleted repository; their bytes are deleted afterwards.",
    _delete_some_of_repository(uploads).returning(
        uploads.c.uuid, uploads.c.offset_bytes, uploads.c.store_key, uploads.c.store_state
    ),
    EndedUploadRow,
)


async def purge_repository_uploads(tx: Transaction, repository: DeletedRow, *, limit: int) -> list[EndedUploadRow]:
    """Ends sessions of the deleted repository, and gives them."""
    return await tx.all(
        PURGE_REPOSITORY_UPLOADS, tenant_id=repository.tenant_id, repository_id=repository.id, limit=limit
    )


PURGED_TABLES: Final[tuple[Statement[PurgedRow], ...]] = tuple(
    statement(
        f"purge_repository_{table.name}",
        f"Rows of a deleted repository in {table.name}, with all that hangs on them.",
        _delete_some_of_repository(table).returning(table.c.repository_id),
        PurgedRow,
    )
    for table in (tags, manifests, layers)  # in the order of the foreign keys
)


async def purge_repository_rows(
    tx: Transaction, purge: Statement[PurgedRow], repository: DeletedRow, *, limit: int
) -> int:
    """How many rows of the deleted repository went, by one of the `PURGED_TABLES`; none when no more is left."""
    return len(await tx.all(purge, tenant_id=repository.tenant_id, repository_id=repository.id, limit=limit))


PURGE_REPOSITORY: Final = statement(
    "purge_repository",
    "A deleted repository of which nothing is left.",
    delete(repositories).where(repositories.c.tenant_id == TENANT_ID, repositories.c.id == REPOSITORY_ID),
    Nothing,
)


async def purge_repository(tx: Transaction, repository: DeletedRow) -> None:
    """Forgets the deleted repository. `NameUnknownError` when somebody who found it earlier wrote to it since."""
    tx.queue(PURGE_REPOSITORY, tenant_id=repository.tenant_id, repository_id=repository.id)


PURGE_MANIFESTS: Final = statement(
    "purge_manifests",
    "Manifests that were deleted so long ago that their rows may go, with all that hangs on them.",
    _delete_some(manifests, manifests.c.deleted_at <= _BEFORE).returning(manifests.c.repository_id),
    PurgedRow,
)


async def purge_manifests(tx: Transaction, *, grace: timedelta, limit: int) -> int:
    """How many manifests went."""
    return len(await tx.all(PURGE_MANIFESTS, grace=grace, limit=limit))
