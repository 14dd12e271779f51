"""Settings and names of repositories: statements of administration."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import ARRAY, BigInteger, Boolean, ColumnElement, Table, Text, func, literal_column, or_, select, update

from distsql.oci.names import RepositoryName
from distsql.sql.statements import PATH, REPOSITORY_ID, TENANT, TENANT_ID, Nothing, parameter, statement
from distsql.sql.tables import layers, manifests, repositories, tags, tenants
from distsql.sql.transactions import Transaction


class RepositorySettings(NamedTuple):
    """What may be done in a repository, where its tenant allows it too."""

    read_only: bool
    deletable: bool
    sparse: bool
    immutable_tags: list[str]
    untagged: str | None


class LockedRepositoryRow(NamedTuple):
    """A repository that nobody else changes until the end of the transaction."""

    tenant_id: int
    id: int
    settings: RepositorySettings


class DescribedRepositoryRow(NamedTuple):
    """A repository as people see it."""

    tenant: str
    path: str
    created_at: datetime
    public: bool
    read_only: bool
    deletable: bool
    sparse: bool
    immutable_tags: list[str]
    untagged: str | None
    manifests: int
    tags: int
    blobs: int


class PathRow(NamedTuple):
    """A repository's name within its tenant."""

    path: str


class LeftPathRow(NamedTuple):
    """The name that a repository is on its way to, and whether it may not go there."""

    path: str
    read_only: bool


class _SettingsRow(NamedTuple):
    tenant_id: int
    id: int
    read_only: bool
    deletable: bool
    sparse: bool
    immutable_tags: list[str]
    untagged: str | None


_NAMED: Final = (
    repositories.c.tenant_id == select(tenants.c.id).where(tenants.c.name == TENANT).scalar_subquery(),
    repositories.c.path == PATH,
    repositories.c.deleted_at.is_(None),
)
_SETTINGS: Final = tuple(repositories.c[name] for name in RepositorySettings._fields)

LOCK_REPOSITORY: Final = statement(
    "lock_repository",
    "A repository with its settings, which nobody else changes until the end of the transaction.",
    select(repositories.c.tenant_id, repositories.c.id, *_SETTINGS).where(*_NAMED).with_for_update(),
    _SettingsRow,
)


async def lock_repository(tx: Transaction, name: RepositoryName) -> LockedRepositoryRow | None:
    """The repository, or None when there is none of this name."""
    row = await tx.one(LOCK_REPOSITORY, tenant=name.tenant, path=name.path)
    return LockedRepositoryRow(row.tenant_id, row.id, RepositorySettings(*row[2:])) if row else None


SET_REPOSITORY_SETTINGS: Final = statement(
    "set_repository_settings",
    "What may be done in a repository from now on.",
    update(repositories)
    .where(repositories.c.tenant_id == TENANT_ID, repositories.c.id == REPOSITORY_ID)
    .values(
        read_only=parameter("read_only", Boolean()),
        deletable=parameter("deletable", Boolean()),
        sparse=parameter("sparse", Boolean()),
        immutable_tags=parameter("immutable_tags", ARRAY(Text())),
        untagged=parameter("untagged", Text()),
    ),
    Nothing,
)


def set_repository_settings(tx: Transaction, repository: LockedRepositoryRow, settings: RepositorySettings) -> None:
    """Changes all of them."""
    tx.queue(
        SET_REPOSITORY_SETTINGS,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        **settings._asdict(),
    )


def _count(table: Table, *conditions: ColumnElement[bool]) -> ColumnElement[int]:
    return (
        select(func.count())
        .select_from(table)
        .where(table.c.tenant_id == repositories.c.tenant_id, table.c.repository_id == repositories.c.id, *conditions)
        .scalar_subquery()
        .label(f"{table.name}_here")
    )


FIND_REPOSITORY_DESCRIPTION: Final = statement(
    "find_repository_description",
    "A repository's settings, and how much is in it.",
    select(
        tenants.c.name,
        *(repositories.c[name] for name in DescribedRepositoryRow._fields[1:-3]),
        _count(manifests, manifests.c.deleted_at.is_(None)),
        _count(tags, tags.c.valid_to.is_(None)),
        _count(layers),
    )
    .select_from(repositories.join(tenants, tenants.c.id == repositories.c.tenant_id))
    .where(*_NAMED),
    DescribedRepositoryRow,
)


async def find_repository_description(tx: Transaction, name: RepositoryName) -> DescribedRepositoryRow | None:
    """The repository, or None when there is none of this name."""
    return await tx.one(FIND_REPOSITORY_DESCRIPTION, tenant=name.tenant, path=name.path)


# -- renaming ---------------------------------------------------------------------------------------------------------

# What is below a path has it and a slash in front. On the way to their new names they are out of each other's way
# behind a character that no path has: a new name may be one of those that are being left.
_MOVING: Final = literal_column("'~'", Text())
_BELOW: Final = PATH + literal_column("'/'", Text())
_NEW_PATH: Final = parameter("new_path", Text(collation="C"))
_subtree = or_(repositories.c.path == PATH, func.starts_with(repositories.c.path, _BELOW))
_tail = func.substr(repositories.c.path, func.char_length(PATH) + literal_column("1", BigInteger()))

LEAVE_PATHS: Final = statement(
    "leave_paths",
    "A repository and everything below it leave their names; they are on their way to new ones.",
    update(repositories)
    .where(repositories.c.tenant_id == TENANT_ID, repositories.c.deleted_at.is_(None), _subtree)
    .values(path=_MOVING + _NEW_PATH + _tail, named_at=func.now())
    .returning(repositories.c.path, repositories.c.read_only),
    LeftPathRow,
)

FIND_TAKEN_PATH: Final = statement(
    "find_taken_path",
    "A repository that has one of these names.",
    select(repositories.c.path)
    .where(
        repositories.c.tenant_id == TENANT_ID,
        repositories.c.deleted_at.is_(None),
        repositories.c.path == func.any(parameter("paths", ARRAY(Text()))),
    )
    .limit(literal_column("1", BigInteger())),
    PathRow,
)

ARRIVE_AT_PATHS: Final = statement(
    "arrive_at_paths",
    "Repositories that are on their way have their new names.",
    update(repositories)
    .where(
        repositories.c.tenant_id == TENANT_ID,
        repositories.c.deleted_at.is_(None),
        func.starts_with(repositories.c.path, _MOVING),
    )
    .values(path=func.substr(repositories.c.path, literal_column("2", BigInteger()))),
    Nothing,
)


async def leave_paths(tx: Transaction, tenant_id: int, path: str, *, new_path: str) -> list[LeftPathRow]:
    """Takes the repository of the path and all below it from their names, and gives the new ones."""
    rows = await tx.all(LEAVE_PATHS, tenant_id=tenant_id, path=path, new_path=new_path)
    return [row._replace(path=row.path[1:]) for row in rows]


async def find_taken_path(tx: Transaction, tenant_id: int, paths: list[str]) -> str | None:
    """One of the paths that another repository has, or None."""
    row = await tx.one(FIND_TAKEN_PATH, tenant_id=tenant_id, paths=paths)
    return row.path if row else None


def arrive_at_paths(tx: Transaction, tenant_id: int) -> None:
    """Gives those that left their names the new ones."""
    tx.queue(ARRIVE_AT_PATHS, tenant_id=tenant_id)
