"""What a server counted, written at once as one row: statements of the owner's, for all tenants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import compress
from typing import Final, NamedTuple

from sqlalchemy import ARRAY, BigInteger, LargeBinary, any_, delete, func, insert, literal_column, select

from distsql.sql.pull_tables import pull_batches
from distsql.sql.statements import LIMIT, Nothing, parameter, statement
from distsql.sql.tables import SERVER_TENANT_ID
from distsql.sql.transactions import Transaction


@dataclass(slots=True)
class CountedPulls:
    """What one kind of actor was given out of a repository on a day, and what was asked for by it."""

    tenant: str
    path: str
    day: date
    actor_kind: str
    requests: int = 0
    pulls: int = 0
    sent_bytes: int = 0
    redirected_bytes: int = 0
    asked_tags: list[str | None] = field(default_factory=list)
    asked_digests: list[bytes | None] = field(default_factory=list)
    """Packed, of the manifests that were given out: beside each tag, or without one; one of both there is."""
    asked_pulls: list[int] = field(default_factory=list)
    """How often each of them was given out."""

    def add(
        self,
        tags: list[str | None],
        digests: list[bytes | None],
        counts: list[int],
        *,
        pulls: int,
        sent_bytes: int,
        redirected_bytes: int,
    ) -> None:
        """So many requests for each of these (for none of both: no manifest), each with this outcome."""
        requests = sum(counts)
        self.requests += requests
        self.pulls += requests * pulls
        self.sent_bytes += requests * sent_bytes
        self.redirected_bytes += requests * redirected_bytes
        asked = [tag is not None or digest is not None for tag, digest in zip(tags, digests, strict=True)]
        self.asked_tags += compress(tags, asked)
        self.asked_digests += compress(digests, asked)
        self.asked_pulls += [count * pulls for count in compress(counts, asked)]


class BatchRow(NamedTuple):
    """Names a batch."""

    id: int


_SERVER: Final = literal_column(str(SERVER_TENANT_ID), BigInteger())
_LOCK: Final = literal_column("7234298748193", BigInteger())
_LISTS: Final = [column for column in pull_batches.c if isinstance(column.type, ARRAY)]
# Digests come as they are packed: nothing is to be made of thousands of them that only passes through.
_PACKED: Final = {"asked_digests": ARRAY(LargeBinary())}

INSERT_PULL_BATCH: Final = statement(
    "insert_pull_batch",
    "What a server counted since the last time.",
    insert(pull_batches).values(
        tenant_id=_SERVER,
        **{each.name: parameter(each.name, _PACKED.get(each.name, each.type)) for each in _LISTS},
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
    await tx.all(
        INSERT_PULL_BATCH,
        tenants=[each.tenant for each in counted],
        paths=[each.path for each in counted],
        days=[each.day for each in counted],
        actor_kinds=[each.actor_kind for each in counted],
        requests=[each.requests for each in counted],
        pulls=[each.pulls for each in counted],
        sent=[each.sent_bytes for each in counted],
        redirected=[each.redirected_bytes for each in counted],
        asked_places=[place for place, each in enumerate(counted, 1) for _ in each.asked_pulls],
        asked_tags=[tag for each in counted for tag in each.asked_tags],
        asked_digests=[digest for each in counted for digest in each.asked_digests],
        asked_pulls=[count for each in counted for count in each.asked_pulls],
    )


async def lock_pull_batches(tx: Transaction, *, limit: int) -> list[int]:
    """The batches that the caller is to add up."""
    tx.queue(LOCK_PULL_BATCHES)
    return [row.id for row in await tx.all(LIST_PULL_BATCHES, limit=limit)]


def delete_pull_batches(tx: Transaction, ids: Sequence[int]) -> None:
    """Forgets them."""
    tx.queue(DELETE_PULL_BATCHES, ids=ids)
