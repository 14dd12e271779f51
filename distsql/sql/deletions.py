"""What was deleted: it stays marked for a while, and then its rows go, a batch in each transaction. Statements."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Delete,
    Interval,
    LargeBinary,
    Table,
    delete,
    false,
    func,
    literal_column,
    select,
    true,
    tuple_,
    update,
)

from distsql.oci.digest import Digest
from distsql.sql.access_tables import accounts
from distsql.sql.garbage_queue import queued, queueing
from distsql.sql.garbage_tables import kept_references
from distsql.sql.manifest_deletions import ManifestKeyRow, key_arrays
from distsql.sql.pull_tables import tag_pulls
from distsql.sql.statements import (
    LIMIT,
    ONE,
    REPOSITORY_ID,
    TENANT_ID,
    Nothing,
    Statement,
    parameter,
    statement,
    unnested,
)
from distsql.sql.tables import blobs, layers, manifests, repositories, tags, tenants
from distsql.sql.tenant_tables import tenant_usage
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType
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

BEGIN_PURGE: Final = statement(
    "begin_purge",
    "A repository can't be restored any more: its rows are taken out from now on.",
    update(repositories)
    .where(
        repositories.c.tenant_id == TENANT_ID,
        repositories.c.id == REPOSITORY_ID,
        repositories.c.deleted_at <= _BEFORE,
    )
    .values(purged_at=func.coalesce(repositories.c.purged_at, func.now()))
    .returning(repositories.c.tenant_id, repositories.c.id),
    DeletedRow,
)


async def begin_purge(
    tx: Transaction, *, tenant_id: int, repository_id: int, restore_period: timedelta
) -> DeletedRow | None:
    """The repository, unless it was restored, is gone, or was deleted again later."""
    return await tx.one(BEGIN_PURGE, tenant_id=tenant_id, repository_id=repository_id, grace=restore_period)


def _some(table: Table, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """A batch of the rows: by places, and in the order of the key.

    By keys the planner, who doesn't know how few there will be, would walk over the whole table for each batch where
    few repositories have most of it.
    """
    place: ColumnElement[object] = literal_column(f"{table.name}.ctid")
    some = select(place).where(*conditions).order_by(*table.primary_key).limit(LIMIT)
    return place == func.any(func.array(some.scalar_subquery()))


def _delete_some_of_repository(table: Table) -> Delete:
    return delete(table).where(_some(table, table.c.tenant_id == TENANT_ID, table.c.repository_id == REPOSITORY_ID))


def _purge(table: Table, counted: ColumnElement[bool]) -> Statement[PurgedRow]:
    gone = _delete_some_of_repository(table).returning(table.c.repository_id, counted.label("counted"))
    return statement(
        f"purge_repository_{table.name}",
        f"Rows of a deleted repository in {table.name}, with all that hangs on them.",
        gone,
        PurgedRow,
    )


def _purge_and_queue(table: Table) -> Statement[PurgedRow]:
    """Of content: its blobs may be garbage."""
    gone = (
        _delete_some_of_repository(table)
        .returning(table.c.tenant_id, table.c.repository_id, table.c.digest)
        .cte("gone")
    )
    return statement(
        f"purge_repository_{table.name}",
        f"Rows of a deleted repository in {table.name}, whose blobs are queued.",
        select(gone.c.repository_id, false()).add_cte(
            queued(queueing("blob", tenant_id=gone.c.tenant_id, digest=gone.c.digest)).cte("queued")
        ),
        PurgedRow,
    )


_MANIFEST: Final = (manifests.c.tenant_id, manifests.c.repository_id, manifests.c.digest)
_OF_REPOSITORY: Final = (manifests.c.tenant_id == TENANT_ID, manifests.c.repository_id == REPOSITORY_ID)

# Marked and counted first, and deleted in another transaction: with all that hangs on a manifest, it takes the locks of
# a dozen tables and indexes.
MARK_MANIFESTS_PURGED: Final = statement(
    "mark_manifests_purged",
    "Manifests of a deleted repository count no more, before their rows go.",
    update(manifests)
    .where(_some(manifests, *_OF_REPOSITORY, manifests.c.deleted_at.is_(None)), manifests.c.deleted_at.is_(None))
    .values(deleted_at=func.now())
    .returning(manifests.c.repository_id, true().label("counted")),
    PurgedRow,
)

# In the order of the foreign keys: manifests go between these and those.
PURGED_FIRST: Final[tuple[Statement[PurgedRow], ...]] = (
    _purge(tags, tags.c.valid_to.is_(None)),
    MARK_MANIFESTS_PURGED,
)
PURGED_LAST: Final[tuple[Statement[PurgedRow], ...]] = (
    _purge_and_queue(layers),
    _purge_and_queue(kept_references),
    _purge(tag_pulls, false()),
)

LIST_PURGED_MANIFESTS: Final = statement(
    "list_purged_manifests",
    "A page of the manifests of a deleted repository.",
    select(*_MANIFEST)
    .where(*_OF_REPOSITORY, manifests.c.digest > parameter("after", LargeBinary()))
    .order_by(manifests.c.digest)
    .limit(LIMIT),
    ManifestKeyRow,
)

_purged_keys = unnested({"tenant_id": BigInteger(), "repository_id": BigInteger(), "digest": DigestType()})

PURGE_REPOSITORY_MANIFESTS: Final = statement(
    "purge_repository_manifests",
    "Marked manifests of a deleted repository, with all that hangs on them.",
    delete(manifests).where(tuple_(*_MANIFEST).in_(select(*_purged_keys.c)), manifests.c.deleted_at.is_not(None)),
    Nothing,
)


async def list_purged_manifests(
    tx: Transaction, repository: DeletedRow, *, after: Digest | None, limit: int
) -> list[ManifestKeyRow]:
    """Manifests behind ``after``, of which `purge_repository_manifests` takes what is marked."""
    return await tx.all(
        LIST_PURGED_MANIFESTS,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        after=after.packed if after else b"",
        limit=limit,
    )


async def purge_repository_manifests(tx: Transaction, keys: Sequence[ManifestKeyRow]) -> None:
    """Takes out those that are still marked."""
    tx.queue(PURGE_REPOSITORY_MANIFESTS, **key_arrays(keys))


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
    """How many rows of the deleted repository went, by one of the statements above; none when no more is left."""
    rows = await tx.all(purge, tenant_id=repository.tenant_id, repository_id=repository.id, limit=limit)
    counted = sum(row.counted for row in rows)
    if counted:
        tx.queue(
            UNCOUNT,
            tenant_id=repository.tenant_id,
            repository_id=repository.id,
            manifests=counted if purge is MARK_MANIFESTS_PURGED else 0,
            tags=0 if purge is MARK_MANIFESTS_PURGED else counted,
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


# -- tenants ----------------------------------------------------------------------------------------------------------

_deleted_tenants = select(tenants.c.id).where(tenants.c.id == TENANT_ID, tenants.c.deleted_at <= _BEFORE)

_marked = (
    update(repositories)
    .where(
        tuple_(repositories.c.tenant_id, repositories.c.id).in_(
            select(repositories.c.tenant_id, repositories.c.id)
            .where(repositories.c.tenant_id.in_(_deleted_tenants), repositories.c.deleted_at.is_(None))
            .limit(LIMIT)
        )
    )
    .values(deleted_at=select(tenants.c.deleted_at).where(tenants.c.id == repositories.c.tenant_id).scalar_subquery())
    .returning(repositories.c.tenant_id, repositories.c.id)
    .cte("marked")
)

MARK_REPOSITORIES_OF_TENANT: Final = statement(
    "mark_repositories_of_tenant",
    "Repositories of a tenant that was deleted so long ago that its rows may go: they are deleted as any others.",
    select(_marked.c.tenant_id, _marked.c.id).add_cte(
        queued(
            queueing(
                "repository",
                tenant_id=_marked.c.tenant_id,
                repository_id=_marked.c.id,
                digest=literal_column("null::bytea", DigestType()),
            )
        ).cte("queued")
    ),
    DeletedRow,
)


async def mark_repositories_of_tenant(tx: Transaction, *, tenant_id: int, grace: timedelta, limit: int) -> int:
    """How many repositories were marked."""
    return len(await tx.all(MARK_REPOSITORIES_OF_TENANT, tenant_id=tenant_id, grace=grace, limit=limit))


# The first by its key: asked whether there is any, the planner would walk over the others' until it finds one.
_first_blob: ColumnElement[object] = (
    select(blobs.c.digest).where(blobs.c.tenant_id == TENANT_ID).order_by(blobs.c.digest).limit(ONE).scalar_subquery()
)

FIND_EMPTY_TENANT: Final = statement(
    "find_empty_tenant",
    "A deleted tenant, if no content of it is left.",
    _deleted_tenants.where(
        ~select(repositories.c.id).where(repositories.c.tenant_id == tenants.c.id).exists(),
        _first_blob.is_(None),
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


async def find_empty_tenant(tx: Transaction, *, tenant_id: int, grace: timedelta) -> bool:
    """Whether nothing of the deleted tenant is left but the rows of `PURGE_TENANT`."""
    return await tx.one(FIND_EMPTY_TENANT, tenant_id=tenant_id, grace=grace) is not None


async def purge_tenant_rows(tx: Transaction, purge: Statement[Nothing], *, tenant_id: int) -> None:
    """Takes out rows of a deleted tenant by one of `PURGE_TENANT`, whose last is the tenant itself. Its audit stays.

    `NameUnknownError` when somebody who found it earlier wrote to it since.
    """
    tx.queue(purge, tenant_id=tenant_id)
