"""Keys that sign tokens: statements, for the owner of the schema. No role that serves reads a private key."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Interval, Text, func, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from distsql.sql.access_tables import signing_keys
from distsql.sql.statements import Nothing, parameter, statement
from distsql.sql.tables import SERVER_TENANT_ID
from distsql.sql.transactions import Transaction


class SigningKeyRow(NamedTuple):
    """A key that signs, or that signed what still counts."""

    kid: str
    algorithm: str
    private_key: str
    created_at: datetime
    retired_at: datetime | None
    expires_at: datetime | None


_SERVER: Final = literal_column(str(SERVER_TENANT_ID), BigInteger())

LIST_SIGNING_KEYS: Final = statement(
    "list_signing_keys",
    "The key that signs, and those before it that still count.",
    select(*(signing_keys.c[name] for name in SigningKeyRow._fields))
    .where(
        signing_keys.c.tenant_id == _SERVER,
        or_(signing_keys.c.expires_at.is_(None), signing_keys.c.expires_at > func.now()),
    )
    .order_by(signing_keys.c.id.desc()),
    SigningKeyRow,
)


async def list_signing_keys(tx: Transaction) -> list[SigningKeyRow]:
    """The newest first."""
    return await tx.all(LIST_SIGNING_KEYS)


INSERT_SIGNING_KEY: Final = statement(
    "insert_signing_key",
    "A key that signs from now on, unless another process has made one.",
    insert(signing_keys)
    .values(
        tenant_id=_SERVER,
        kid=parameter("kid", Text()),
        algorithm=parameter("algorithm", Text()),
        private_key=parameter("private_key", Text()),
    )
    .on_conflict_do_nothing(),
    Nothing,
)


def insert_signing_key(tx: Transaction, *, kid: str, algorithm: str, private_key: str) -> None:
    """Adds a key; there is one at a time that signs, so the first of two stays."""
    tx.queue(INSERT_SIGNING_KEY, kid=kid, algorithm=algorithm, private_key=private_key)


RETIRE_SIGNING_KEYS: Final = statement(
    "retire_signing_keys",
    "The key that signs does so no more; what it has signed counts until the end of the grace.",
    update(signing_keys)
    .where(signing_keys.c.tenant_id == _SERVER, signing_keys.c.retired_at.is_(None))
    .values(retired_at=func.now(), expires_at=func.now() + parameter("grace", Interval())),
    Nothing,
)


def retire_signing_keys(tx: Transaction, *, grace: timedelta) -> None:
    """Retires the key that signs."""
    tx.queue(RETIRE_SIGNING_KEYS, grace=grace)
