"""What the catalogue says of itself, for metrics: statements of the owner's."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Double, Text, column, func, literal_column, select, table
from sqlalchemy.dialects.postgresql import array

from distsql.sql.garbage_tables import KINDS, garbage_queue
from distsql.sql.statements import statement
from distsql.sql.tables import uploads
from distsql.sql.transactions import Transaction
from distsql.sql.webhook_tables import webhook_deliveries


class GaugesRow(NamedTuple):
    """Seconds, a count, and bytes; none where there is nothing to be late with."""

    garbage_oldest_seconds: float | None
    events_oldest_seconds: float | None
    events_dead: int
    uploads: int
    replication_lag_bytes: int | None


_SECONDS: Final = literal_column("'epoch'", Text())
# One by one: an index has the first of each.
_kinds = (
    func.unnest(array([literal_column(f"'{kind}'", Text()) for kind in KINDS])).table_valued("kind").render_derived()
)
_oldest = select(func.min(garbage_queue.c.queued_at)).where(garbage_queue.c.kind == _kinds.c.kind).scalar_subquery()
_replicas = table("pg_stat_replication", column("replay_lsn"))

FIND_GAUGES: Final = statement(
    "find_gauges",
    "How far behind garbage collection and replicas are, and how many uploads are open.",
    select(
        select(func.date_part(_SECONDS, func.now() - func.min(_oldest), type_=Double()))
        .select_from(_kinds)
        .scalar_subquery()
        .label("garbage_oldest_seconds"),
        select(func.date_part(_SECONDS, func.now() - func.min(webhook_deliveries.c.event_at), type_=Double()))
        .where(webhook_deliveries.c.state == literal_column("'waiting'", Text()))
        .scalar_subquery()
        .label("events_oldest_seconds"),
        select(func.count())
        .select_from(webhook_deliveries)
        .where(webhook_deliveries.c.state == literal_column("'dead'", Text()))
        .scalar_subquery()
        .label("events_dead"),
        select(func.count()).select_from(uploads).scalar_subquery().label("uploads"),
        # Nothing is seen of them without the rights of pg_monitor.
        select(func.max(func.pg_wal_lsn_diff(func.pg_current_wal_lsn(), _replicas.c.replay_lsn)).cast(BigInteger))
        .scalar_subquery()
        .label("replication_lag_bytes"),
    ),
    GaugesRow,
)


async def find_gauges(tx: Transaction) -> GaugesRow:
    """As the catalogue is now."""
    row = await tx.one(FIND_GAUGES)
    if row is None:
        raise AssertionError("it is one row")
    return row
