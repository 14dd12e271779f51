"""What a server counted, written at once as one row: statements of the owner's, for all tenants."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final, NamedTuple

from sqlalchemy import ARRAY, BigInteger, any_, delete, func, insert, literal_column, select

from distsql.oci.digest import Digest
from distsql.sql.database import Transaction
from distsql.sql.pull_tables import pull_batches
from distsql.sql.statements import LIMIT, Nothing, parameter, statement
from distsql.sql.tables import SERVER_TENANT_ID


class CountedPulls(NamedTuple):
    """What one kind of actor was given out of a repository on a day, and what was asked for by it."""

    tenant: str
    path: str
    day: date
    actor_kind: str
    requests: int
    pulls: int
    sent_bytes: int
    redirected_bytes: int
    asked: Sequence[tuple[str | None, Digest | None]]
    """Tags and digests of manifests that were given out, at least one of both."""
    asked_pulls: Sequence[int]
    """How often each of them."""


class BatchRow(NamedTuple):
    """Names a batch."""

    id: int


_SERVER: Final = literal_column(str(SERVER_TENANT_ID), BigInteger())
_LOCK: Final = literal_column("7234298748193", BigInteger())
_LISTS: Final = [column for column in pull_batches.c if isinstance(column.type, ARRAY)]

INSERT_PULL_BATCH: Final = statement(
    "insert_pull_batch",
    "What a server counted since the last time.",
    insert(pull_batches).values(
        tenant_id=_SERVER, **{column.name: parameter(column.name, column.type) for column in _LISTS}
    ),
    Nothing,
)

LOCK_PULL_BATCHES: Final = statement(
    "lock_pull_batches",
    "Nobody else adds up until the end of the transaction: so no two wait for each other in a circle.",
    select(func.pg_advisory_xact_lock(_LOCK)),
    Nothing,
)

LIST_PULL_BATCHES: Final = statement(
    "list_pull_batches",
    "The oldest that nobody has added up yet.",
    select(pull_batches.c.id).where(pull_batches.c.tenant_id == _SERVER).order_by(pull_batches.c.id).limit(LIMIT),
    BatchRow,
)

DELETE_PULL_BATCHES: Final = statement(
    "delete_pull_batches",
    "They are added up.",
    delete(pull_batches).where(
        pull_batches.c.tenant_id == _SERVER, pull_batches.c.id == any_(parameter("ids", ARRAY(BigInteger())))
    ),
    Nothing,
)


async def insert_pull_batch(tx: Transaction, counted: Sequence[CountedPulls]) -> None:
    """Writes them as one batch. Not queued: who writes it has to know whether only the commit is in doubt."""
    tenants, paths, days, kinds, requests, pulls, sent, redirected, *_ = zip(*counted, strict=True)
    await tx.all(
        INSERT_PULL_BATCH,
        tenants=tenants,
        paths=paths,
        days=days,
        actor_kinds=kinds,
        requests=requests,
        pulls=pulls,
        sent=sent,
        redirected=redirected,
        asked_places=[place for place, each in enumerate(counted, 1) for _ in each.asked],
        asked_tags=[tag for each in counted for tag, _ in each.asked],
        asked_digests=[digest for each in counted for _, digest in each.asked],
        asked_pulls=[count for each in counted for count in each.asked_pulls],
    )


async def lock_pull_batches(tx: Transaction, *, limit: int) -> list[int]:
    """The batches that the caller is to add up."""
    tx.queue(LOCK_PULL_BATCHES)
    return [row.id for row in await tx.all(LIST_PULL_BATCHES, limit=limit)]


def delete_pull_batches(tx: Transaction, ids: Sequence[int]) -> None:
    """Forgets them."""
    tx.queue(DELETE_PULL_BATCHES, ids=ids)
