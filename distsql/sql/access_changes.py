"""Whose rights have changed: statements. A change is told in its own transaction, and read in the order of commits."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Interval, Text, cast, delete, func, select, true
from sqlalchemy.dialects.postgresql import insert

from distsql.sql.access_tables import access_changes
from distsql.sql.accounts import ACCOUNT_ID
from distsql.sql.statements import TENANT_ID, Nothing, parameter, statement
from distsql.sql.transactions import Transaction

NOTHING_READ: Final = 2**63 - 1
"""The horizon of who has read nothing yet, and wants no more than to know from where on to read."""


class AccessChangeRow(NamedTuple):
    """A change, or none: there is always a row for the horizon. Without an account it is about the whole tenant."""

    horizon: int
    tenant_id: int | None
    id: int | None
    account_id: int | None


INSERT_ACCESS_CHANGE: Final = statement(
    "insert_access_change",
    "The rights of an account, or of a tenant's accounts, are others from this transaction on.",
    insert(access_changes).values(tenant_id=TENANT_ID, account_id=ACCOUNT_ID),
    Nothing,
)


def insert_access_change(tx: Transaction, tenant_id: int, account_id: int | None = None) -> None:
    """Tells every server, within a second or two, to read this account, or all of the tenant's, anew."""
    tx.queue(INSERT_ACCESS_CHANGE, tenant_id=tenant_id, account_id=account_id)


# Whatever this statement doesn't see yet is of a transaction that isn't over, and so not before the horizon.
_horizon = select(
    cast(cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), Text()), BigInteger()).label("horizon")
).subquery("seen")
_new = (
    select(access_changes.c.tenant_id, access_changes.c.id, access_changes.c.account_id)
    .where(access_changes.c.transaction_id >= parameter("horizon", BigInteger()))
    .subquery("new")
)

LIST_ACCESS_CHANGES: Final = statement(
    "list_access_changes",
    "Whose rights have changed, as far as that was not sure to have been read before; and up to where it is now.",
    select(_horizon.c.horizon, _new.c.tenant_id, _new.c.id, _new.c.account_id).select_from(
        _horizon.outerjoin(_new, true())
    ),
    AccessChangeRow,
)


async def list_access_changes(tx: Transaction, horizon: int) -> list[AccessChangeRow]:
    """Changes behind the horizon that an earlier answer gave; some of them may have been in that answer."""
    return await tx.all(LIST_ACCESS_CHANGES, horizon=horizon)


DELETE_ACCESS_CHANGES: Final = statement(
    "delete_access_changes",
    "Changes that every server has read long ago.",
    delete(access_changes).where(
        access_changes.c.at < func.now() - parameter("age", Interval()),
        access_changes.c.transaction_id < cast(select(_horizon.c.horizon).scalar_subquery(), BigInteger()),
    ),
    Nothing,
)


async def delete_access_changes(tx: Transaction, *, age: timedelta) -> None:
    """Forgets those that are older."""
    tx.queue(DELETE_ACCESS_CHANGES, age=age)
