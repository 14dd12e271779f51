"""Days that are over are rolled up: statements, for the owner."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import func, select

from distsql.sql.database import Transaction
from distsql.sql.statements import statement


class _DoneRow(NamedTuple):
    nothing: object


ROLL_UP_DAYS: Final = statement(
    "roll_up_days",
    "What is stored now, and what was pushed on days that are over; nothing while somebody else does it.",
    select(func.roll_up_days()),
    _DoneRow,
)


async def roll_up_days(tx: Transaction) -> None:
    """Writes down what is stored now, and what was pushed on the days that are over since it last ran."""
    await tx.one(ROLL_UP_DAYS)
