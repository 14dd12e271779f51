"""Who runs retention, and when: statements."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Boolean, Interval, cast, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from distsql.sql.statements import Nothing, parameter, statement
from distsql.sql.tables import SERVER_TENANT_ID
from distsql.sql.transactions import Transaction
from distsql.sql.verification_tables import retention_runs

_LOCK: Final = literal_column("7234298748192", BigInteger())


class RanRow(NamedTuple):
    """When retention was run."""

    ran_at: datetime


class LockedRow(NamedTuple):
    """Whether the lock was got."""

    locked: bool


_new = insert(retention_runs).values(tenant_id=literal_column(str(SERVER_TENANT_ID), BigInteger()), ran_at=func.now())

CLAIM_RETENTION_RUN: Final = statement(
    "claim_retention_run",
    "It is this server's turn to run all policies: nobody did for the interval, and nobody else does now.",
    _new.on_conflict_do_update(
        index_elements=[retention_runs.c.tenant_id],
        set_={"ran_at": func.now()},
        where=retention_runs.c.ran_at <= func.now() - cast(parameter("interval", Interval()), Interval()),
    ).returning(retention_runs.c.ran_at),
    RanRow,
)


async def claim_retention_run(tx: Transaction, *, interval: timedelta) -> bool:
    """Whether it is the caller's turn."""
    return await tx.one(CLAIM_RETENTION_RUN, interval=interval) is not None


TRY_LOCK_RETENTION: Final = statement(
    "try_lock_retention",
    "Whether nobody else runs a policy just now, kept so until the end of the transaction.",
    select(func.pg_try_advisory_xact_lock(_LOCK, type_=Boolean())),
    LockedRow,
)

LOCK_RETENTION: Final = statement(
    "lock_retention",
    "Nobody else runs a policy until the end of the transaction.",
    select(func.pg_advisory_xact_lock(_LOCK)),
    Nothing,
)


async def lock_retention(tx: Transaction, *, patient: bool) -> bool:
    """Whether the caller is the only one to run policies; who is patient waits until it is so."""
    if patient:
        tx.queue(LOCK_RETENTION)
        return True
    row = await tx.one(TRY_LOCK_RETENTION)
    return bool(row and row.locked)
