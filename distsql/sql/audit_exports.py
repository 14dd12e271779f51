"""Old audit that leaves the catalogue: a month's partition at a time. Statements of the owner's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, BindParameter, DateTime, Text, bindparam, text

from distsql.sql.audit_seals import COLUMNS, INSTANT
from distsql.sql.statements import LIMIT, Nothing, statement
from distsql.sql.transactions import Transaction


class MonthRow(NamedTuple):
    """A month's partition, and the instant behind it."""

    name: str
    begins_at: datetime
    ends_at: datetime

    @classmethod
    def of(cls, instant: datetime) -> MonthRow:
        """The month of the instant, whether or not it has a partition."""
        begins = instant.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return cls(f"audit_events_{begins:%Y_%m}", begins, (begins + timedelta(days=31)).replace(day=1))


class EventRow(NamedTuple):
    """An event, as seals hash it (`distsql.sql.audit_seals.COLUMNS`)."""

    tenant_id: int
    at: str
    id: int
    actor: str
    account_id: int | None
    token_id: str | None
    action: str
    repository: str | None
    reference: str | None
    digest: str | None
    outcome: str
    cause: str | None
    times: int
    client_address: str
    user_agent: str
    request_id: str


class CountRow(NamedTuple):
    """How many."""

    events: int


_WRITTEN: Final = {"at": INSTANT.format("e.at") + " as at", "digest": "encode(e.digest, 'hex') as digest"}
_EVENT: Final = ", ".join(_WRITTEN.get(name, f"e.{name}") for name in COLUMNS)


def _instant(name: str) -> BindParameter[datetime]:
    return bindparam(name, type_=DateTime(timezone=True))


LIST_AUDIT_MONTHS: Final = statement(
    "list_audit_months",
    "Partitions of the audit whose month was over before an instant, oldest first.",
    text(
        """
select p.name, p.begins_at, (p.begins_at at time zone 'UTC' + interval '1 month') at time zone 'UTC' as ends_at
from (
    select c.relname::text as name,
        to_date(right(c.relname, 7), 'YYYY_MM')::timestamp at time zone 'UTC' as begins_at
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'audit_events'::regclass and c.relname ~ '^audit_events_\\d{4}_\\d{2}$'
) p
where (p.begins_at at time zone 'UTC' + interval '1 month') at time zone 'UTC' <= :before
order by p.begins_at
"""
    ).bindparams(_instant("before")),
    MonthRow,
)

LIST_AUDIT_EVENTS: Final = statement(
    "list_audit_events",
    "A page of a month's events, in the order in which they are sealed.",
    text(
        f"""
select {_EVENT} from audit_events e
where e.at >= :begins_at and e.at < :ends_at
and (e.tenant_id, e.at, e.id) > (:tenant_id, cast(:after_at as timestamptz), :after_id)
order by e.tenant_id, e.at, e.id limit :limit
"""  # noqa: S608  # constants of this page
    ).bindparams(
        _instant("begins_at"),
        _instant("ends_at"),
        bindparam("tenant_id", type_=BigInteger()),
        bindparam("after_at", type_=Text()),
        bindparam("after_id", type_=BigInteger()),
        LIMIT,
    ),
    EventRow,
)

COUNT_UNSEALED_EVENTS: Final = statement(
    "count_unsealed_events",
    "Events of a month that no seal holds.",
    text(
        """
select count(*) as events from audit_events e
where e.at >= :begins_at and e.at < :ends_at
and not exists (select from audit_seals s where s.tenant_id = e.tenant_id and s.until_at >= e.at)
"""
    ).bindparams(_instant("begins_at"), _instant("ends_at")),
    CountRow,
)

MARK_SEALS_EXPORTED: Final = statement(
    "mark_seals_exported",
    "Seals whose events are in a file from now on.",
    text(
        "update audit_seals set exported_at = now() where until_at >= :begins_at and until_at < :ends_at "
        "and exported_at is null"
    ).bindparams(_instant("begins_at"), _instant("ends_at")),
    Nothing,
)


async def list_audit_months(tx: Transaction, *, before: datetime) -> list[MonthRow]:
    """Months that are over, oldest first."""
    return await tx.all(LIST_AUDIT_MONTHS, before=before)


async def list_audit_events(
    tx: Transaction, month: MonthRow, *, after: tuple[int, str, int], limit: int
) -> list[EventRow]:
    """The month's events behind one of them: by tenant's id, instant, id."""
    return await tx.all(
        LIST_AUDIT_EVENTS,
        begins_at=month.begins_at,
        ends_at=month.ends_at,
        tenant_id=after[0],
        after_at=after[1],
        after_id=after[2],
        limit=limit,
    )


async def count_unsealed_events(tx: Transaction, month: MonthRow) -> int:
    """How many of the month's events are in no seal."""
    row = await tx.one(COUNT_UNSEALED_EVENTS, begins_at=month.begins_at, ends_at=month.ends_at)
    return row.events if row else 0


DROP_AUDIT_MONTH: Final = statement(
    "drop_audit_month",
    "A month's events leave the catalogue: DDL, for which writers wait a moment.",
    text("select drop_audit_month(:name)").bindparams(bindparam("name", type_=Text())),
    Nothing,
)


def drop_audit_month(tx: Transaction, month: MonthRow) -> None:
    """Drops the partition, and says in its seals that their events are elsewhere."""
    tx.queue(MARK_SEALS_EXPORTED, begins_at=month.begins_at, ends_at=month.ends_at)
    tx.queue(DROP_AUDIT_MONTH, name=month.name)
