"""Tenants: statements, for the owner of the schema."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import ARRAY, BigInteger, Boolean, ColumnElement, Text, case, func, literal_column, null, select, update
from sqlalchemy.dialects.postgresql import insert

from distsql.sql.repositories import TenantRow
from distsql.sql.statements import LIMIT, TENANT, TENANT_ID, Nothing, parameter, statement
from distsql.sql.tables import repositories, tenants
from distsql.sql.tenant_tables import tenant_usage
from distsql.sql.transactions import Transaction


class TenantSettings(NamedTuple):
    """What a tenant may do, and how much. A limit that is None is none; lengths are in bytes."""

    read_only: bool
    deletable: bool
    sparse: bool
    creators: str
    immutable_tags: list[str]
    untagged: str
    manifest_limit_bytes: int | None
    quota_bytes: int | None
    quota_repositories: int | None
    quota_manifests: int | None
    quota_tags: int | None
    store: str | None


class LockedTenantRow(NamedTuple):
    """A tenant that nobody else changes until the end of the transaction."""

    id: int
    suspended: bool
    settings: TenantSettings


class DescribedTenantRow(NamedTuple):
    """A tenant as people see it: its settings, and what it uses."""

    name: str
    created_at: datetime
    public: bool
    suspended_at: datetime | None
    read_only: bool
    deletable: bool
    sparse: bool
    creators: str
    immutable_tags: list[str]
    untagged: str
    manifest_limit_bytes: int | None
    quota_bytes: int | None
    quota_repositories: int | None
    quota_manifests: int | None
    quota_tags: int | None
    store: str | None
    stored_bytes: int
    repositories: int
    manifests: int
    tags: int


class LengthRow(NamedTuple):
    """Characters of the longest path."""

    characters: int


INSERT_TENANT: Final = statement(
    "insert_tenant",
    "A new tenant; none when the name is taken.",
    insert(tenants).values(name=TENANT).on_conflict_do_nothing().returning(tenants.c.id),
    TenantRow,
)


async def insert_tenant(tx: Transaction, tenant: str) -> int | None:
    """The new tenant's id, or None when there is one of this name."""
    row = await tx.one(INSERT_TENANT, tenant=tenant)
    return row.id if row else None


SET_TENANT_PUBLIC: Final = statement(
    "set_tenant_public",
    "Whether everybody may pull from all of a tenant's repositories.",
    update(tenants)
    .where(tenants.c.name == TENANT)
    .values(public=parameter("public", Boolean()))
    .returning(tenants.c.id),
    TenantRow,
)


async def set_tenant_public(tx: Transaction, tenant: str, *, public: bool) -> int | None:
    """The id of the tenant that was opened or closed, or None when there is none."""
    row = await tx.one(SET_TENANT_PUBLIC, tenant=tenant, public=public)
    return row.id if row else None


# -- settings ---------------------------------------------------------------------------------------------------------

_SETTINGS: Final = tuple(tenants.c[name] for name in TenantSettings._fields)


class _SettingsRow(NamedTuple):
    id: int
    suspended: bool
    read_only: bool
    deletable: bool
    sparse: bool
    creators: str
    immutable_tags: list[str]
    untagged: str
    manifest_limit_bytes: int | None
    quota_bytes: int | None
    quota_repositories: int | None
    quota_manifests: int | None
    quota_tags: int | None
    store: str | None


LOCK_TENANT: Final = statement(
    "lock_tenant",
    "A tenant with its settings, which nobody else changes until the end of the transaction.",
    select(tenants.c.id, tenants.c.suspended_at.is_not(None).label("suspended"), *_SETTINGS)
    .where(tenants.c.name == TENANT)
    .with_for_update(),
    _SettingsRow,
)


async def lock_tenant(tx: Transaction, tenant: str) -> LockedTenantRow | None:
    """The tenant, or None when there is none of this name."""
    row = await tx.one(LOCK_TENANT, tenant=tenant)
    return LockedTenantRow(row.id, row.suspended, TenantSettings(*row[2:])) if row else None


_LIMITS: Final = ("manifest_limit_bytes", "quota_bytes", "quota_repositories", "quota_manifests", "quota_tags")

SET_TENANT_SETTINGS: Final = statement(
    "set_tenant_settings",
    "What a tenant may do from now on, and how much.",
    update(tenants)
    .where(tenants.c.id == TENANT_ID)
    .values(
        read_only=parameter("read_only", Boolean()),
        deletable=parameter("deletable", Boolean()),
        sparse=parameter("sparse", Boolean()),
        creators=parameter("creators", Text()),
        immutable_tags=parameter("immutable_tags", ARRAY(Text())),
        untagged=parameter("untagged", Text()),
        store=parameter("store", Text()),
        **{name: parameter(name, BigInteger()) for name in _LIMITS},
    ),
    Nothing,
)


def set_tenant_settings(tx: Transaction, tenant_id: int, settings: TenantSettings) -> None:
    """Changes all of them."""
    tx.queue(SET_TENANT_SETTINGS, tenant_id=tenant_id, **settings._asdict())


# -- life -------------------------------------------------------------------------------------------------------------

RENAME_TENANT: Final = statement(
    "rename_tenant",
    "A tenant gets another name, and so do all of its repositories.",
    update(tenants).where(tenants.c.id == TENANT_ID).values(name=parameter("name", Text(collation="C"))),
    Nothing,
)


def rename_tenant(tx: Transaction, tenant_id: int, name: str) -> None:
    """Gives the tenant the name, which must be free."""
    tx.queue(RENAME_TENANT, tenant_id=tenant_id, name=name)


FIND_LONGEST_PATH: Final = statement(
    "find_longest_path",
    "How long the longest of a tenant's repositories' paths is.",
    select(func.coalesce(func.max(func.char_length(repositories.c.path)), literal_column("0", BigInteger()))).where(
        repositories.c.tenant_id == TENANT_ID, repositories.c.deleted_at.is_(None)
    ),
    LengthRow,
)


async def find_longest_path(tx: Transaction, tenant_id: int) -> int:
    """Characters of the longest path; 0 without repositories."""
    row = await tx.one(FIND_LONGEST_PATH, tenant_id=tenant_id)
    return row.characters if row else 0


SUSPEND_TENANT: Final = statement(
    "suspend_tenant",
    "A tenant is suspended, or not any more.",
    update(tenants)
    .where(tenants.c.id == TENANT_ID)
    .values(
        suspended_at=case(
            (parameter("suspended", Boolean()), func.coalesce(tenants.c.suspended_at, func.now())), else_=null()
        )
    ),
    Nothing,
)


def suspend_tenant(tx: Transaction, tenant_id: int, *, suspended: bool) -> None:
    """Suspends the tenant, or lets it go on."""
    tx.queue(SUSPEND_TENANT, tenant_id=tenant_id, suspended=suspended)


MARK_TENANT_DELETED: Final = statement(
    "mark_tenant_deleted",
    "A tenant is deleted: without its name nobody finds it, and the name is free. Its rows go with the garbage.",
    update(tenants)
    .where(tenants.c.id == TENANT_ID)
    .values(name=null(), deleted_name=tenants.c.name, deleted_at=func.now()),
    Nothing,
)


def mark_tenant_deleted(tx: Transaction, tenant_id: int) -> None:
    """Deletes the tenant with everything in it, for everybody at once."""
    tx.queue(MARK_TENANT_DELETED, tenant_id=tenant_id)


# -- for people -------------------------------------------------------------------------------------------------------


def _used(measure: str) -> ColumnElement[int]:
    column = tenant_usage.c[measure]
    used = select(func.sum(column).cast(BigInteger)).where(tenant_usage.c.tenant_id == tenants.c.id).scalar_subquery()
    return func.coalesce(used, literal_column("0", BigInteger())).label(f"used_{measure}")


_described = select(
    *(tenants.c[name] for name in DescribedTenantRow._fields[:-4]), *map(_used, DescribedTenantRow._fields[-4:])
)

FIND_TENANT_DESCRIPTION: Final = statement(
    "find_tenant_description",
    "A tenant's settings, and what it uses.",
    _described.where(tenants.c.name == TENANT),
    DescribedTenantRow,
)


async def find_tenant_description(tx: Transaction, tenant: str) -> DescribedTenantRow | None:
    """The tenant, or None when there is none of this name."""
    return await tx.one(FIND_TENANT_DESCRIPTION, tenant=tenant)


LIST_TENANTS: Final = statement(
    "list_tenants",
    "A page of the tenants, by name.",
    _described.where(
        tenants.c.name > parameter("after", Text(collation="C")), tenants.c.id != literal_column("0", BigInteger())
    )
    .order_by(tenants.c.name)
    .limit(LIMIT),
    DescribedTenantRow,
)


async def list_tenants(tx: Transaction, *, after: str, limit: int) -> list[DescribedTenantRow]:
    """Tenants behind ``after``."""
    return await tx.all(LIST_TENANTS, after=after, limit=limit)
