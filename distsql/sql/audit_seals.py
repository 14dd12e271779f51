"""Seals over the audit: statements of the owner's.

An event's hash is that of a JSON array of its columns, in the order of `COLUMNS`, as PostgreSQL writes ``jsonb`` (and
Python's ``json.dumps`` does). What a file of exported events says is hashed alike (`distsql.registry.audit_chains`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, DateTime, bindparam, select, text

from distsql.sql.seal_tables import audit_seals
from distsql.sql.statements import LIMIT, ONE, TENANT_ID, statement
from distsql.sql.transactions import Transaction

COLUMNS: Final = (
    "tenant_id",
    "at",
    "id",
    "actor",
    "account_id",
    "token_id",
    "action",
    "repository",
    "reference",
    "digest",
    "outcome",
    "cause",
    "times",
    "client_address",
    "user_agent",
    "request_id",
)
INSTANT: Final = """to_char({} at time zone 'UTC', 'YYYY-MM-DD"T"HH24\\:MI\\:SS.US"Z"')"""
_WRITTEN: Final = {"at": INSTANT.format("e.at"), "digest": "encode(e.digest, 'hex')"}
_EVENT: Final = f"jsonb_build_array({', '.join(_WRITTEN.get(name, f'e.{name}') for name in COLUMNS)})::text"
_CONTENT: Final = (
    f"sha256(coalesce(string_agg(sha256(convert_to({_EVENT}, 'UTF8')), ''::bytea order by e.at, e.id), ''))"
)
_UNTIL: Final = bindparam("until", type_=DateTime(timezone=True))


class InstantRow(NamedTuple):
    """An instant by the database's clock."""

    at: datetime


class WriterRow(NamedTuple):
    """A transaction that has written events and isn't over."""

    writer: str


class MineRow(NamedTuple):
    """Whether a lock was had."""

    mine: bool


class SealedRow(NamedTuple):
    """A seal that was made, and of how many events."""

    tenant_id: int
    events: int


class SealRow(NamedTuple):
    """A seal."""

    tenant_id: int
    number: int
    from_at: datetime | None
    until_at: datetime
    events: int
    content: bytes
    root: bytes
    exported_at: datetime | None


class CheckedRow(NamedTuple):
    """A seal, and what its events are now."""

    tenant_id: int
    number: int
    from_at: datetime | None
    until_at: datetime
    events: int
    content: bytes
    root: bytes
    exported_at: datetime | None
    found_events: int
    found_content: bytes


class RootRow(NamedTuple):
    """The last seal of a tenant; a deleted one has no name."""

    tenant_id: int
    tenant: str | None
    number: int
    until_at: datetime
    root: bytes


# -- which events are settled -----------------------------------------------------------------------------------------

FIND_NOW: Final = statement(
    "find_now",
    "The database's clock, before anything else is asked.",
    text("select clock_timestamp() as at"),
    InstantRow,
)

LIST_AUDIT_WRITERS: Final = statement(
    "list_audit_writers",
    "Transactions that write to the audit and aren't over: each keeps its lock of the table until then.",
    text(
        "select virtualtransaction as writer from pg_locks where locktype = 'relation' "
        "and database = (select oid from pg_database where datname = current_database()) "
        "and relation = 'audit_events'::regclass and mode = 'RowExclusiveLock'"
    ),
    WriterRow,
)


async def find_now(tx: Transaction) -> datetime:
    """The database's clock."""
    row = await tx.one(FIND_NOW)
    if row is None:
        raise AssertionError("it is one row")
    return row.at


async def list_audit_writers(tx: Transaction) -> set[str]:
    """Who is writing events now: who isn't among them writes later ones, by the same clock."""
    return {row.writer for row in await tx.all(LIST_AUDIT_WRITERS)}


# -- sealing ----------------------------------------------------------------------------------------------------------

SEALER_LOCK: Final = 0x7365616C
"""One seals at a time."""

LOCK_SEALER: Final = statement(
    "lock_sealer",
    "Whether nobody else seals just now; kept until the end of the transaction.",
    text("select pg_try_advisory_xact_lock(:key) as mine").bindparams(bindparam("key", type_=BigInteger())),
    MineRow,
)

FIND_LAST_SEALED: Final = statement(
    "find_last_sealed",
    "When anything was sealed last.",
    select(audit_seals.c.sealed_at).order_by(audit_seals.c.sealed_at.desc()).limit(ONE),
    InstantRow,
)

_SAID: Final = (
    "convert_to(concat_ws(' ', tenant_id, number, "
    f"coalesce({INSTANT.format('from_at')}, 'begin'), {INSTANT.format('until_at')}, events), 'UTF8')"
)

SEAL_EVENTS: Final = statement(
    "seal_events",
    "The next seal of each tenant that has settled events without one; of one day each.",
    text(
        # All constants of this page.
        f"""
with open_ranges as (
    select t.id as tenant_id, coalesce(l.number, 0) + 1 as number,
        coalesce(l.root, '\\x') as before,
        l.until_at as from_at,
        least(:until, date_trunc('day', f.at, 'UTC') + interval '1 day' - interval '1 microsecond') as until_at
    from tenants t
    left join lateral (
        select s.number, s.root, s.until_at from audit_seals s where s.tenant_id = t.id order by s.number desc limit 1
    ) l on true
    cross join lateral (
        select e.at from audit_events e
        where e.tenant_id = t.id and e.at > coalesce(l.until_at, '-infinity') and e.at <= :until
        order by e.at limit 1
    ) f
), hashed as (
    select o.*, c.events, c.content from open_ranges o cross join lateral (
        select count(*) as events, {_CONTENT} as content from audit_events e
        where e.tenant_id = o.tenant_id and e.at > coalesce(o.from_at, '-infinity') and e.at <= o.until_at
    ) c
)
insert into audit_seals (tenant_id, number, from_at, until_at, events, content, root)
select tenant_id, number, from_at, until_at, events, content, sha256(before || {_SAID} || content)
from hashed order by tenant_id
returning tenant_id, events
"""  # noqa: S608
    ).bindparams(_UNTIL),
    SealedRow,
)


async def lock_sealer(tx: Transaction) -> bool:
    """Whether the caller may seal."""
    row = await tx.one(LOCK_SEALER, key=SEALER_LOCK)
    return row is not None and row.mine


async def find_last_sealed(tx: Transaction) -> datetime | None:
    """When anything was sealed last, or None."""
    row = await tx.one(FIND_LAST_SEALED)
    return row.at if row else None


async def seal_events(tx: Transaction, *, until: datetime) -> list[SealedRow]:
    """Seals a day's events of each tenant, up to an instant before which all are settled; none when all are sealed."""
    return await tx.all(SEAL_EVENTS, until=until)


# -- checking ---------------------------------------------------------------------------------------------------------

LIST_SEALS: Final = statement(
    "list_seals",
    "A page of a tenant's seals, with what their events are now.",
    text(
        f"""
select s.tenant_id, s.number, s.from_at, s.until_at, s.events, s.content, s.root, s.exported_at,
    c.events as found_events, c.content as found_content
from (
    select * from audit_seals where tenant_id = :tenant_id and number > :after order by number limit :limit
) s
cross join lateral (
    select count(*) as events, {_CONTENT} as content from audit_events e
    where e.tenant_id = s.tenant_id and e.at > coalesce(s.from_at, '-infinity') and e.at <= s.until_at
) c
order by s.number
"""  # noqa: S608
    ).bindparams(TENANT_ID, bindparam("after", type_=BigInteger()), LIMIT),
    CheckedRow,
)

LIST_ROOTS: Final = statement(
    "list_roots",
    "The last seal of every tenant.",
    text(
        "select distinct on (s.tenant_id) s.tenant_id, t.name as tenant, s.number, s.until_at, s.root "
        "from audit_seals s left join tenants t on t.id = s.tenant_id order by s.tenant_id, s.number desc"
    ),
    RootRow,
)


async def list_seals(tx: Transaction, tenant_id: int, *, after: int, limit: int) -> list[CheckedRow]:
    """Seals behind the number ``after``."""
    return await tx.all(LIST_SEALS, tenant_id=tenant_id, after=after, limit=limit)


async def list_roots(tx: Transaction) -> list[RootRow]:
    """The last seal of every tenant, by the tenant's id."""
    return await tx.all(LIST_ROOTS)
