"""What garbage collection has to look at: written by whoever makes something unreferenced, taken in batches.

Writers only add, in the statement that does it where there is one (`queueing`). An entry says that something may have
become garbage, not that it is: that is judged when its time has come, under locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Insert,
    Interval,
    Select,
    Text,
    delete,
    func,
    literal_column,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.digest import Digest
from distsql.sql.garbage_tables import garbage_queue
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import DIGEST, LIMIT, REPOSITORY_ID, TENANT_ID, Nothing, parameter, statement, unnested
from distsql.sql.transactions import Transaction


class QueuedRow(NamedTuple):
    """An entry of the queue, by its key, and what it is about."""

    tenant_id: int
    id: int
    repository_id: int
    digest: Digest | None
    queued_at: datetime


_KIND: Final = parameter("kind", Text())
_RANDOM: Final = literal_column("(random() * 9007199254740991)::bigint", BigInteger())
_NONE: Final = literal_column("0", BigInteger())
_COLUMNS: Final = ["tenant_id", "id", "kind", "repository_id", "digest"]


def queueing(
    kind: str,
    *,
    tenant_id: ColumnElement[Any],
    digest: ColumnElement[Any],
    repository_id: ColumnElement[Any] = _NONE,
) -> Select[Any]:
    """Entries of a kind, to be inserted from what another part of the statement changed."""
    return select(
        tenant_id.label("tenant_id"),
        _RANDOM.label("id"),
        literal_column(f"'{kind}'", Text()).label("kind"),
        repository_id.label("repository_id"),
        digest.label("digest"),
    )


def queued(*entries: Select[Any]) -> Insert:
    """Puts the entries into the queue."""
    first, *rest = entries
    return insert(garbage_queue).from_select(_COLUMNS, first.union_all(*rest) if rest else first)


QUEUE: Final = statement(
    "queue",
    "Something may be garbage from now on.",
    insert(garbage_queue).values(
        tenant_id=TENANT_ID, id=_RANDOM, kind=_KIND, repository_id=REPOSITORY_ID, digest=DIGEST
    ),
    Nothing,
)


def queue_manifest(tx: Transaction, repository: RepositoryRow, digest: Digest) -> None:
    """A manifest came that has no tag: perhaps an index or its subject follows, perhaps not."""
    _queue(tx, "manifest", repository.tenant_id, repository.id, digest)


def queue_repository(tx: Transaction, tenant_id: int, repository_id: int) -> None:
    """A repository was deleted."""
    _queue(tx, "repository", tenant_id, repository_id, None)


def queue_tenant(tx: Transaction, tenant_id: int) -> None:
    """A tenant was deleted."""
    _queue(tx, "tenant", tenant_id, 0, None)


def queue_untagged(tx: Transaction, tenant_id: int, repository_id: int = 0) -> None:
    """Untagged manifests of the repository, or of the whole tenant, are collected from now on."""
    _queue(tx, "untagged", tenant_id, repository_id, None)


def _queue(tx: Transaction, kind: str, tenant_id: int, repository_id: int, digest: Digest | None) -> None:
    tx.queue(QUEUE, kind=kind, tenant_id=tenant_id, repository_id=repository_id, digest=digest)


# -- for garbage collection -------------------------------------------------------------------------------------------

TAKE_QUEUED: Final = statement(
    "take_queued",
    "The oldest entries of a kind whose time has come, locked; by the index of their instants.",
    select(*(garbage_queue.c[name] for name in QueuedRow._fields))
    .where(garbage_queue.c.kind == _KIND, garbage_queue.c.queued_at <= func.now() - parameter("grace", Interval()))
    .order_by(garbage_queue.c.queued_at)
    .limit(LIMIT)
    .with_for_update(skip_locked=True),
    QueuedRow,
)


async def take_queued(tx: Transaction, kind: str, *, delay: timedelta, limit: int) -> list[QueuedRow]:
    """Entries of the kind that were queued longer ago than the delay; the transaction has to finish or put them off."""
    return await tx.all(TAKE_QUEUED, kind=kind, grace=delay, limit=limit)


_key = tuple_(garbage_queue.c.tenant_id, garbage_queue.c.id)
_finished = unnested({"tenant_id": BigInteger(), "id": BigInteger()})

FINISH_QUEUED: Final = statement(
    "finish_queued",
    "Entries that were looked at.",
    delete(garbage_queue).where(_key.in_(select(_finished.c.tenant_id, _finished.c.id))),
    Nothing,
)

_put_off = unnested({"tenant_id": BigInteger(), "id": BigInteger(), "queued_at": DateTime(timezone=True)})

PUT_OFF_QUEUED: Final = statement(
    "put_off_queued",
    "Entries whose time has not come after all; those that somebody works with come again a moment later.",
    update(garbage_queue)
    .where(garbage_queue.c.tenant_id == _put_off.c.tenant_id, garbage_queue.c.id == _put_off.c.id)
    .values(queued_at=func.coalesce(_put_off.c.queued_at, func.now() + text("interval '1 second'"))),
    Nothing,
)


def finish_queued(tx: Transaction, rows: Iterable[QueuedRow]) -> None:
    """Forgets entries that this transaction took."""
    keys = [(row.tenant_id, row.id) for row in rows]
    if keys:
        tx.queue(FINISH_QUEUED, tenant_ids=[key[0] for key in keys], ids=[key[1] for key in keys])


def put_off_queued(tx: Transaction, rows: Sequence[tuple[QueuedRow, datetime | None]]) -> None:
    """Counts the time of entries from another instant; from a moment later, where it is None."""
    if rows:
        tx.queue(
            PUT_OFF_QUEUED,
            tenant_ids=[row.tenant_id for row, _ in rows],
            ids=[row.id for row, _ in rows],
            queued_ats=[since for _, since in rows],
        )
