"""What was deleted: it stays marked for a while, and then its rows go, a batch in each transaction. Statements."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Delete, Interval, Table, delete, false, func, select, tuple_, update

from distsql.sql.access_tables import accounts
from distsql.sql.database import Transaction
from distsql.sql.pull_tables import tag_pulls
from distsql.sql.statements import LIMIT, REPOSITORY_ID, TENANT_ID, Nothing, Statement, parameter, statement
from distsql.sql.tables import blobs, layers, manifests, repositories, tags, tenants, uploads
from distsql.sql.tenant_tables import tenant_usage
from distsql.sql.uploads import EndedUploadRow
from distsql.sql.usage import correct_usage


class DeletedRow(NamedTuple):
    """A repository that was deleted."""

    tenant_id: int
    id: int


class PurgedRow(NamedTuple):
    """The repository of a row that is gone, and whether the row was one that counts."""

    repository_id: int
    counted: bool


class UncountedRow(NamedTuple):
    """What was taken out of the tenant's usage and was not there any more, or was there besides (below 0)."""

    manifests: int
    tags: int


class TenantIdRow(NamedTuple):
    """A tenant that was deleted."""

    id: int


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
        _delete_some_of_repository(table).returning(table.c.repository_id, counted.label("counted")),
        PurgedRow,
    )
    # In the order of the foreign keys.
    for table, counted in (
        (tags, tags.c.valid_to.is_(None)),
        (manifests, manifests.c.deleted_at.is_(None)),
        (layers, false()),
        (tag_pulls, false()),
    )
)
_TAGS, _MANIFESTS, *_ = PURGED_TABLES

UNCOUNT: Final = statement(
    "uncount",
    "Of what was taken out of the usage when a repository was deleted, this much is gone now.",
    update(repositories)
    .where(repositories.c.tenant_id == TENANT_ID, repositories.c.id == REPOSITORY_ID)
    .values(
        uncounted_manifests=repositories.c.uncounted_manifests - parameter("manifests", BigInteger()),
        uncounted_tags=repositories.c.uncounted_tags - parameter("tags", BigInteger()),
    ),
    Nothing,
)


async def purge_repository_rows(
    tx: Transaction, purge: Statement[PurgedRow], repository: DeletedRow, *, limit: int
) -> int:
    """How many rows of the deleted repository went, by one of the `PURGED_TABLES`; none when no more is left."""
    rows = await tx.all(purge, tenant_id=repository.tenant_id, repository_id=repository.id, limit=limit)
    counted = sum(row.counted for row in rows)
    if counted:
        tx.queue(
            UNCOUNT,
            tenant_id=repository.tenant_id,
            repository_id=repository.id,
            manifests=counted if purge is _MANIFESTS else 0,
            tags=counted if purge is _TAGS else 0,
        )
    return len(rows)


PURGE_REPOSITORY: Final = statement(
    "purge_repository",
    "A deleted repository of which nothing is left.",
    delete(repositories)
    .where(repositories.c.tenant_id == TENANT_ID, repositories.c.id == REPOSITORY_ID)
    .returning(repositories.c.uncounted_manifests, repositories.c.uncounted_tags),
    UncountedRow,
)


async def purge_repository(tx: Transaction, repository: DeletedRow) -> None:
    """Forgets the deleted repository. `NameUnknownError` when somebody who found it earlier wrote to it since."""
    row = await tx.one(PURGE_REPOSITORY, tenant_id=repository.tenant_id, repository_id=repository.id)
    if row is not None:
        correct_usage(tx, repository.tenant_id, manifests=row.manifests, tags=row.tags)


PURGE_MANIFESTS: Final = statement(
    "purge_manifests",
    "Manifests that were deleted so long ago that their rows may go, with all that hangs on them.",
    _delete_some(manifests, manifests.c.deleted_at <= _BEFORE).returning(
        manifests.c.repository_id, false().label("counted")
    ),
    PurgedRow,
)


async def purge_manifests(tx: Transaction, *, grace: timedelta, limit: int) -> int:
    """How many manifests went."""
    return len(await tx.all(PURGE_MANIFESTS, grace=grace, limit=limit))


# -- tenants ----------------------------------------------------------------------------------------------------------

_deleted_tenants = select(tenants.c.id).where(tenants.c.deleted_at <= _BEFORE)

MARK_REPOSITORIES_OF_DELETED_TENANTS: Final = statement(
    "mark_repositories_of_deleted_tenants",
    "Repositories of tenants that were deleted so long ago that their rows may go: they are deleted as any others.",
    update(repositories)
    .where(
        tuple_(repositories.c.tenant_id, repositories.c.id).in_(
            select(repositories.c.tenant_id, repositories.c.id)
            .where(repositories.c.tenant_id.in_(_deleted_tenants), repositories.c.deleted_at.is_(None))
            .limit(LIMIT)
        )
    )
    .values(deleted_at=select(tenants.c.deleted_at).where(tenants.c.id == repositories.c.tenant_id).scalar_subquery())
    .returning(repositories.c.id, false()),
    PurgedRow,
)


async def mark_repositories_of_deleted_tenants(tx: Transaction, *, grace: timedelta, limit: int) -> int:
    """How many repositories were marked."""
    return len(await tx.all(MARK_REPOSITORIES_OF_DELETED_TENANTS, grace=grace, limit=limit))


LIST_EMPTY_TENANTS: Final = statement(
    "list_empty_tenants",
    "Deleted tenants of which no content is left.",
    _deleted_tenants.where(
        ~select(repositories.c.id).where(repositories.c.tenant_id == tenants.c.id).exists(),
        ~select(blobs.c.digest).where(blobs.c.tenant_id == tenants.c.id).exists(),
    ),
    TenantIdRow,
)

PURGE_TENANT: Final = tuple(
    statement(
        f"purge_tenant_{table.name}",
        f"Rows of a deleted tenant in {table.name}, with all that hangs on them.",
        delete(table).where(column == TENANT_ID),
        Nothing,
    )
    for table, column in (
        (accounts, accounts.c.tenant_id),
        (tenant_usage, tenant_usage.c.tenant_id),
        (tenants, tenants.c.id),
    )
)


async def purge_tenants(tx: Transaction, *, grace: timedelta) -> int:
    """How many deleted tenants went, of which nothing was left. Their audit stays.

    `NameUnknownError` when somebody who found one of them earlier wrote to it since.
    """
    found = await tx.all(LIST_EMPTY_TENANTS, grace=grace)
    for tenant in found:
        for purge in PURGE_TENANT:
            tx.queue(purge, tenant_id=tenant.id)
    return len(found)
