"""Whose turn it is to do what one server does for all of them: statements of the owner's."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Interval, Text, cast, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert

from distsql.sql.columns import INSTANT
from distsql.sql.statements import Nothing, parameter, statement
from distsql.sql.tables import SERVER_TENANT_ID
from distsql.sql.transactions import Transaction
from distsql.sql.turn_tables import turns


class TurnRow(NamedTuple):
    """Until when it is the caller's."""

    next_at: datetime


class SpanRow(NamedTuple):
    """From where on it is to be done, and the database's clock."""

    since: datetime
    until: datetime


_SERVER: Final = literal_column(str(SERVER_TENANT_ID), BigInteger())
_NAME: Final = parameter("name", Text())
_then = func.now() + cast(parameter("period", Interval()), Interval())
_this = (turns.c.tenant_id == _SERVER, turns.c.name == _NAME)
_not_due = select(turns.c.name).where(*_this, turns.c.next_at > func.now()).exists()

CLAIM_TURN: Final = statement(
    "claim_turn",
    "It is the caller's turn for a while, unless somebody else has it. Who asks too early locks nothing.",
    insert(turns)
    .from_select(["tenant_id", "name", "next_at"], select(_SERVER, cast(_NAME, Text()), _then).where(~_not_due))
    .on_conflict_do_update(
        index_elements=[turns.c.tenant_id, turns.c.name],
        set_={"next_at": _then},
        where=turns.c.next_at <= func.now(),
    )
    .returning(turns.c.next_at),
    TurnRow,
)

KEEP_TURN: Final = statement(
    "keep_turn",
    "For how long from now nobody else does it: it is being done, or was.",
    update(turns).where(*_this).values(next_at=_then),
    Nothing,
)


FIND_REACHED: Final = statement(
    "find_reached",
    "How far it was done, but no longer ago than the period.",
    select(
        func.greatest(
            select(turns.c.reached_at).where(*_this).scalar_subquery(),
            func.now() - cast(parameter("period", Interval()), Interval()),
            type_=INSTANT,
        ),
        func.now(),
    ),
    SpanRow,
)

KEEP_REACHED: Final = statement(
    "keep_reached",
    "What was written before is done with.",
    update(turns).where(*_this).values(reached_at=parameter("at", INSTANT)),
    Nothing,
)


async def claim_turn(tx: Transaction, name: str, *, period: timedelta) -> bool:
    """Whether it is the caller's turn, for the period at first."""
    return await tx.one(CLAIM_TURN, name=name, period=period) is not None


async def keep_turn(tx: Transaction, name: str, *, period: timedelta) -> None:
    """Nobody else begins before the period is over."""
    tx.queue(KEEP_TURN, name=name, period=period)


async def find_reached(tx: Transaction, name: str, *, period: timedelta) -> SpanRow:
    """What is to be done now, of the last period at most."""
    row = await tx.one(FIND_REACHED, name=name, period=period)
    if row is None:
        raise AssertionError("it is one row")
    return row


async def keep_reached(tx: Transaction, name: str, *, at: datetime) -> None:
    """The next one goes on from there."""
    tx.queue(KEEP_REACHED, name=name, at=at)
