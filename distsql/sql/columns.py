"""Columns that many tables have, and the types of names and instants."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, Text, func, text

NAME: Final = Text(collation="C")
"""What clients call things: in the order of its bytes, as pages are."""
INSTANT: Final = DateTime(timezone=True)
NOW: Final = func.now()
"""When the transaction began."""


def tenant_id() -> Column[int]:
    """First in every key."""
    return Column("tenant_id", BigInteger, nullable=False, comment="The tenant: tenants.id.")


def repository_id(comment: str = "The repository: repositories.id.") -> Column[int]:
    """Of the same tenant."""
    return Column("repository_id", BigInteger, nullable=False, comment=comment)


def counter(name: str, comment: str) -> Column[int]:
    """A number that begins at zero."""
    return Column(name, BigInteger, nullable=False, server_default=text("0"), comment=comment)
