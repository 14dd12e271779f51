"""The catalogue's table of what servers do by turns."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint, Table

from distsql.sql.columns import INSTANT, NAME
from distsql.sql.tables import metadata

turns: Final = Table(
    "turns",
    metadata,
    Column("tenant_id", BigInteger, nullable=False, comment="0: the server itself."),
    Column("name", NAME, nullable=False, comment="What is done by one server at a time."),
    Column(
        "next_at",
        INSTANT,
        nullable=False,
        comment="Until when nobody else begins: while it is done, and until it is due again.",
    ),
    Column(
        "reached_at",
        INSTANT,
        comment="What was written before is done with, where it is done in the order of writing.",
    ),
    PrimaryKeyConstraint("tenant_id", "name"),
    comment="Whose turn it is, of all servers and their workers, to do what one of them does for all.",
)
