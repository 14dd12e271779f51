"""Whether the database answers."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import Integer, literal_column, select

from distsql.sql.statements import statement
from distsql.sql.transactions import Transaction


class PingRow(NamedTuple):
    """One."""

    answer: int


PING: Final = statement("ping", "Whether the database answers.", select(literal_column("1", Integer())), PingRow)


async def ping(tx: Transaction) -> None:
    """Raises unless the database answers."""
    await tx.one(PING)
