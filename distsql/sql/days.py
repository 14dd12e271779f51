"""Days are rolled up: statements, for the owner."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import Interval, func, select

from distsql.sql.statements import parameter, statement
from distsql.sql.transactions import Transaction


class _DoneRow(NamedTuple):
    nothing: object


ROLL_UP_DAYS: Final = statement(
    "roll_up_days",
    "What is stored now, and what was pushed up to ten minutes ago; nothing when somebody else did or does it.",
    select(func.roll_up_days(parameter("unless_since", Interval()))),
    _DoneRow,
)


async def roll_up_days(tx: Transaction, *, unless_since: timedelta = timedelta()) -> None:
    """Writes down what is stored now, and what was pushed since the last time; unless that was within the interval."""
    await tx.one(ROLL_UP_DAYS, unless_since=unless_since)
