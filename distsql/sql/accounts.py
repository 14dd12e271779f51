"""Accounts: statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    DateTime,
    Interval,
    Text,
    case,
    delete,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from distsql.sql.access_tables import accounts, grants
from distsql.sql.statements import ONE, TENANT, TENANT_ID, Nothing, parameter, statement, unnested
from distsql.sql.tables import tenants
from distsql.sql.transactions import Transaction


class AccountRow(NamedTuple):
    """An account, as people see it: without its secret's hash."""

    tenant_id: int
    id: int
    tenant: str
    name: str
    kind: str
    created_at: datetime
    expires_at: datetime | None
    disabled_at: datetime | None
    last_used_at: datetime | None


class CredentialRow(NamedTuple):
    """What a secret is compared with."""

    tenant_id: int
    id: int
    secret_hash: str


class AccountStateRow(NamedTuple):
    """What decides whether an account's tokens count, and what it may do now: patterns and actions in pairs."""

    tenant: str
    name: str
    expires_at: datetime | None
    disabled_at: datetime | None
    generation: int
    secret_generation: int
    kind: str
    last_used_at: datetime | None
    suspended: bool
    patterns: list[str]
    actions: list[str]


class TenantIdRow(NamedTuple):
    """A tenant's id, if there is one."""

    id: int | None


class AccountIdRow(NamedTuple):
    """An account's id."""

    id: int


NAME: Final = parameter("name", Text())
ACCOUNT_ID: Final = parameter("account_id", BigInteger())
SECRET_HASH: Final = parameter("secret_hash", Text())
_MINE: Final = (accounts.c.tenant_id == TENANT_ID, accounts.c.id == ACCOUNT_ID)
_ACCOUNT: Final = (
    accounts.c.tenant_id,
    accounts.c.id,
    tenants.c.name.label("tenant"),
    accounts.c.name,
    accounts.c.kind,
    accounts.c.created_at,
    accounts.c.expires_at,
    accounts.c.disabled_at,
    accounts.c.last_used_at,
)
_with_tenant: Final = tenants.join(accounts, accounts.c.tenant_id == tenants.c.id)

INSERT_ACCOUNT: Final = statement(
    "insert_account",
    "A new account; none when the name is taken.",
    insert(accounts)
    .values(
        tenant_id=TENANT_ID,
        name=NAME,
        kind=parameter("kind", Text()),
        secret_hash=SECRET_HASH,
        expires_at=func.now() + parameter("lifetime", Interval()),
    )
    .on_conflict_do_nothing()
    .returning(accounts.c.id),
    AccountIdRow,
)


async def insert_account(
    tx: Transaction, tenant_id: int, name: str, *, kind: str, secret_hash: str, lifetime: timedelta | None
) -> int | None:
    """The account's id, or None when the tenant has one of this name."""
    row = await tx.one(
        INSERT_ACCOUNT, tenant_id=tenant_id, name=name, kind=kind, secret_hash=secret_hash, lifetime=lifetime
    )
    return row.id if row else None


FIND_ACCOUNT: Final = statement(
    "find_account",
    "An account by its login name.",
    select(*_ACCOUNT).select_from(_with_tenant).where(tenants.c.name == TENANT, accounts.c.name == NAME),
    AccountRow,
)


async def find_account(tx: Transaction, tenant: str, name: str) -> AccountRow | None:
    """The account, or None."""
    return await tx.one(FIND_ACCOUNT, tenant=tenant, name=name)


LIST_ACCOUNTS: Final = statement(
    "list_accounts",
    "The accounts of a tenant, or of all.",
    select(*_ACCOUNT)
    .select_from(_with_tenant)
    .where((literal_column("''", Text()) == TENANT) | (tenants.c.name == TENANT))
    .order_by(tenants.c.name, accounts.c.name),
    AccountRow,
)


async def list_accounts(tx: Transaction, *, tenant: str) -> list[AccountRow]:
    """The tenant's accounts; with an empty ``tenant`` everybody's."""
    return await tx.all(LIST_ACCOUNTS, tenant=tenant)


FIND_TENANT_ID: Final = statement(
    "find_tenant_id",
    "The id behind a tenant's name, for row-level security, when nobody says that he is of it.",
    select(func.tenant_id_of(TENANT, type_=BigInteger()).label("id")),
    TenantIdRow,
)


async def find_tenant_id(tx: Transaction, tenant: str) -> int | None:
    """The tenant's id, or None."""
    row = await tx.one(FIND_TENANT_ID, tenant=tenant)
    return row.id if row else None


FIND_CREDENTIAL: Final = statement(
    "find_credential",
    "What the secret of somebody who logs in is compared with.",
    select(accounts.c.tenant_id, accounts.c.id, accounts.c.secret_hash)
    .select_from(_with_tenant)
    .where(tenants.c.name == TENANT, accounts.c.name == NAME),
    CredentialRow,
)


async def find_credential(tx: Transaction, tenant: str, name: str) -> CredentialRow | None:
    """The hash of the account's secret, or None."""
    return await tx.one(FIND_CREDENTIAL, tenant=tenant, name=name)


def _granted(column: str) -> object:
    """The account's grants as an array, in an order that is the same for each column."""
    own = select(grants.c[column]).where(
        grants.c.tenant_id == accounts.c.tenant_id, grants.c.account_id == accounts.c.id
    )
    ordered = own.order_by(grants.c.pattern, grants.c.action).scalar_subquery()
    return func.array(ordered, type_=ARRAY(Text())).label(f"{column}s")


FIND_ACCOUNT_STATE: Final = statement(
    "find_account_state",
    "Whether an account counts now, and what it may do.",
    select(
        tenants.c.name.label("tenant"),
        accounts.c.name,
        accounts.c.expires_at,
        accounts.c.disabled_at,
        accounts.c.generation,
        accounts.c.secret_generation,
        accounts.c.kind,
        accounts.c.last_used_at,
        tenants.c.suspended_at.is_not(None).label("suspended"),
        _granted("pattern"),  # type: ignore[call-overload]  # columns, made by a function
        _granted("action"),
    )
    .select_from(_with_tenant)
    .where(*_MINE, tenants.c.name.is_not(None)),  # a deleted tenant has no name
    AccountStateRow,
)


async def find_account_state(tx: Transaction, tenant_id: int, account_id: int) -> AccountStateRow | None:
    """The account's state and grants, or None when it or its tenant was deleted."""
    return await tx.one(FIND_ACCOUNT_STATE, tenant_id=tenant_id, account_id=account_id)


_OFF: Final = parameter("off", Boolean())

SET_DISABLED: Final = statement(
    "set_disabled",
    "Switches an account off, which makes all its tokens void, or on again.",
    update(accounts)
    .where(*_MINE)
    .values(
        disabled_at=case((_OFF, func.coalesce(accounts.c.disabled_at, func.now()))),
        generation=accounts.c.generation + ONE,
        secret_generation=accounts.c.secret_generation + case((_OFF, ONE), else_=literal_column("0", BigInteger())),
    ),
    Nothing,
)


def set_disabled(tx: Transaction, account: AccountRow, *, off: bool) -> None:
    """Whether the account is switched off."""
    tx.queue(SET_DISABLED, tenant_id=account.tenant_id, account_id=account.id, off=off)


SET_SECRET: Final = statement(
    "set_secret",
    "Another secret: the one before and all tokens that came of it are void.",
    update(accounts)
    .where(*_MINE)
    .values(
        secret_hash=SECRET_HASH,
        generation=accounts.c.generation + ONE,
        secret_generation=accounts.c.secret_generation + ONE,
    ),
    Nothing,
)


def set_secret(tx: Transaction, account: AccountRow, secret_hash: str) -> None:
    """Replaces the account's secret."""
    tx.queue(SET_SECRET, tenant_id=account.tenant_id, account_id=account.id, secret_hash=secret_hash)


DELETE_ACCOUNT: Final = statement(
    "delete_account", "An account with its grants.", delete(accounts).where(*_MINE), Nothing
)


def delete_account(tx: Transaction, account: AccountRow) -> None:
    """Removes the account; a later one of the same name has another id."""
    tx.queue(DELETE_ACCOUNT, tenant_id=account.tenant_id, account_id=account.id)


_used = unnested({"tenant_id": BigInteger(), "account_id": BigInteger(), "at": DateTime(timezone=True)})

SET_LAST_USED: Final = statement(
    "set_last_used",
    "When accounts were last used: many at once, a few seconds late.",
    update(accounts)
    .where(accounts.c.tenant_id == _used.c.tenant_id, accounts.c.id == _used.c.account_id)
    .values(last_used_at=func.greatest(accounts.c.last_used_at, _used.c.at)),
    Nothing,
)


def set_last_used(tx: Transaction, used: Mapping[tuple[int, int], datetime]) -> None:
    """Remembers the instants, by tenant's and account's id; earlier than what is known changes nothing."""
    keys: Sequence[tuple[int, int]] = sorted(used)  # one order for all processes: they wait, and never in a circle
    tx.queue(
        SET_LAST_USED,
        tenant_ids=[tenant_id for tenant_id, _ in keys],
        account_ids=[account_id for _, account_id in keys],
        ats=[used[key] for key in keys],
    )


RAISE_GENERATION: Final = statement(
    "raise_generation",
    "Rights were taken away: access tokens that may name them are void.",
    update(accounts).where(*_MINE).values(generation=accounts.c.generation + ONE),
    Nothing,
)


def raise_generation(tx: Transaction, account: AccountRow) -> None:
    """Makes the account's access tokens void; refresh tokens get new ones."""
    tx.queue(RAISE_GENERATION, tenant_id=account.tenant_id, account_id=account.id)
