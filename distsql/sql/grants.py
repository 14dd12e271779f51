"""Grants: statements. And what decides about a repository, for whoever asks for it by name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    Boolean,
    DateTime,
    Interval,
    Text,
    delete,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.names import RepositoryName
from distsql.sql.access_tables import grants
from distsql.sql.accounts import ACCOUNT_ID, AccountRow
from distsql.sql.statements import (
    ONE,
    PATH,
    REPOSITORY_ID,
    TENANT,
    TENANT_ID,
    Nothing,
    parameter,
    statement,
    unnested,
)
from distsql.sql.tables import repositories, tenants
from distsql.sql.transactions import Transaction


class GrantRow(NamedTuple):
    """One action on the repositories of a pattern."""

    pattern: str
    action: str


class AccessRow(NamedTuple):
    """A path of a tenant: the repository that has it at ``at``, if any, and whether everybody may pull from it."""

    path: str
    tenant_id: int
    repository_id: int | None
    public: bool
    at: datetime


class FirstRow(NamedTuple):
    """The repository that has a name now, and whether another one had it since an instant."""

    id: int | None
    taken: bool


class RepositoryIdRow(NamedTuple):
    """A repository's id."""

    id: int


_PATTERN: Final = parameter("pattern", Text())
_PUBLIC: Final = parameter("public", Boolean())
_new = unnested({"action": Text()})

INSERT_GRANTS: Final = statement(
    "insert_grants",
    "What an account may do from now on; what it may do already stays.",
    insert(grants)
    .from_select(
        ["tenant_id", "account_id", "pattern", "action"], select(TENANT_ID, ACCOUNT_ID, _PATTERN, _new.c.action)
    )
    .on_conflict_do_nothing(),
    Nothing,
)


def insert_grants(tx: Transaction, tenant_id: int, account_id: int, pattern: str, actions: Sequence[str]) -> None:
    """Gives the account the actions on the pattern's repositories."""
    tx.queue(INSERT_GRANTS, tenant_id=tenant_id, account_id=account_id, pattern=pattern, actions=list(actions))


DELETE_GRANTS: Final = statement(
    "delete_grants",
    "What an account may not do any more, of what was granted with the same pattern.",
    delete(grants)
    .where(
        grants.c.tenant_id == TENANT_ID,
        grants.c.account_id == ACCOUNT_ID,
        grants.c.pattern == _PATTERN,
        grants.c.action == func.any(parameter("actions", ARRAY(Text()))),
    )
    .returning(grants.c.pattern, grants.c.action),
    GrantRow,
)


async def delete_grants(tx: Transaction, account: AccountRow, pattern: str, actions: Sequence[str]) -> list[GrantRow]:
    """Those that there were."""
    return await tx.all(
        DELETE_GRANTS, tenant_id=account.tenant_id, account_id=account.id, pattern=pattern, actions=list(actions)
    )


LIST_GRANTS: Final = statement(
    "list_grants",
    "What an account may do.",
    select(grants.c.pattern, grants.c.action)
    .where(grants.c.tenant_id == TENANT_ID, grants.c.account_id == ACCOUNT_ID)
    .order_by(grants.c.pattern, grants.c.action),
    GrantRow,
)


async def list_grants(tx: Transaction, account: AccountRow) -> list[GrantRow]:
    """The account's grants, by pattern."""
    return await tx.all(LIST_GRANTS, tenant_id=account.tenant_id, account_id=account.id)


_tenant = (
    select(tenants.c.id, tenants.c.public)
    .where(tenants.c.name == TENANT, tenants.c.suspended_at.is_(None))
    .limit(ONE)
    .subquery("tenant")
)
_asked = unnested({"path": Text()})
_found = (
    select(repositories.c.id, repositories.c.public)
    .where(
        repositories.c.tenant_id == _tenant.c.id,
        repositories.c.path == _asked.c.path,
        repositories.c.deleted_at.is_(None),
    )
    .limit(ONE)
    .lateral("repository")
)

LIST_ACCESSES: Final = statement(
    "list_accesses",
    "The repositories that a token is about to be issued for.",
    select(
        _asked.c.path,
        _tenant.c.id.label("tenant_id"),
        _found.c.id.label("repository_id"),
        func.coalesce(_tenant.c.public | _found.c.public, false()).label("public"),  # SQL's coalesce
        func.now().label("at"),
    ).select_from(_tenant.join(_asked, true()).outerjoin(_found, true())),
    AccessRow,
)


async def list_accesses(tx: Transaction, tenant: str, paths: Sequence[str]) -> list[AccessRow]:
    """One row for each path; none when there is no such tenant, or it is suspended."""
    return await tx.all(LIST_ACCESSES, tenant=tenant, paths=list(paths))


_SINCE: Final = parameter("since", DateTime(timezone=True))
# A repository's instant is the beginning of the transaction that makes it: one that was on its way when a token was
# issued, which didn't see it, looks older than the token, and is the first of the name all the same.
_MAKING: Final = literal_column("interval '1 minute'", Interval())
_named: Final = (repositories.c.tenant_id == TENANT_ID, repositories.c.path == PATH)
_now = select(repositories.c.id).where(*_named, repositories.c.deleted_at.is_(None))
_before = select(repositories.c.id).where(
    *_named,
    or_(
        repositories.c.deleted_at >= _SINCE,
        repositories.c.deleted_at.is_(None)
        & or_(repositories.c.named_at.is_not(None), repositories.c.created_at <= _SINCE - _MAKING),
    ),
)

_same_tenant = select(tenants.c.id).where(tenants.c.id == TENANT_ID, tenants.c.name == TENANT)

FIND_FIRST_REPOSITORY: Final = statement(
    "find_first_repository",
    "Which repository was made under a name that was free at an instant, and whether it is the first.",
    select(_now.scalar_subquery().label("id"), or_(_before.exists(), ~_same_tenant.exists()).label("taken")),
    FirstRow,
)


async def find_first_repository(tx: Transaction, tenant_id: int, name: RepositoryName, since: datetime) -> FirstRow:
    """The repository that has the name now, if any; ``taken`` when it may be another's.

    It is when a repository lost the name since the instant, or the tenant its own.
    """
    row = await tx.one(FIND_FIRST_REPOSITORY, tenant_id=tenant_id, tenant=name.tenant, path=name.path, since=since)
    if row is None:
        raise AssertionError("a select without a table gives one row")
    return row


FIND_PUBLIC_REPOSITORY: Final = statement(
    "find_public_repository",
    "Whether everybody may pull from a repository, still.",
    select(repositories.c.id)
    .select_from(repositories.join(tenants, tenants.c.id == repositories.c.tenant_id))
    .where(
        repositories.c.tenant_id == TENANT_ID,
        repositories.c.id == REPOSITORY_ID,
        or_(repositories.c.public, tenants.c.public),
        tenants.c.suspended_at.is_(None),
    ),
    RepositoryIdRow,
)


async def find_public_repository(tx: Transaction, tenant_id: int, repository_id: int) -> int | None:
    """The repository's id, if it or its tenant is public; else None."""
    row = await tx.one(FIND_PUBLIC_REPOSITORY, tenant_id=tenant_id, repository_id=repository_id)
    return row.id if row else None


SET_REPOSITORY_PUBLIC: Final = statement(
    "set_repository_public",
    "Whether everybody may pull from a repository.",
    update(repositories)
    .where(repositories.c.tenant_id == TENANT_ID, repositories.c.id == REPOSITORY_ID)
    .values(public=_PUBLIC),
    Nothing,
)


def set_repository_public(tx: Transaction, tenant_id: int, repository_id: int, *, public: bool) -> None:
    """Opens the repository to everybody for pulling, or closes it."""
    tx.queue(SET_REPOSITORY_PUBLIC, tenant_id=tenant_id, repository_id=repository_id, public=public)
