"""Audit: what was changed, by whom; written in the transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Text, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.digest import Digest
from distsql.sql.revisions import months_from
from distsql.sql.statements import ONE, TENANT_ID, Nothing, parameter, statement, unnested
from distsql.sql.tables import SERVER_TENANT_ID, audit_events, tenants
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType
from distsql.values import Caller, Incident

_RANDOM: Final = literal_column("(random() * 9007199254740991)::bigint", BigInteger())
_WHO: Final = ("actor", "account_id", "token_id")
_WHENCE: Final = ("client_address", "user_agent", "request_id")
_new = unnested(
    {
        **dict.fromkeys(_WHO, Text()),
        "account_id": BigInteger(),
        "reference": Text(),
        "digest": DigestType(),
        **dict.fromkeys(_WHENCE, Text()),
    },
    suffix="_each",
)
_TOLD_OF: Final = tuple(column.name for column in _new.c)

INSERT_AUDIT_EVENTS: Final = statement(
    "insert_audit_events",
    "What was done: an event for each time and each reference.",
    insert(audit_events).from_select(
        ["tenant_id", "id", "action", "repository", *_TOLD_OF],
        select(
            TENANT_ID,
            _RANDOM,
            parameter("action", Text()),
            parameter("repository", Text()),
            *(_new.c[name] for name in _TOLD_OF),
        ),
    ),
    Nothing,
)


class AuditEvent(NamedTuple):
    """What a caller did it to."""

    caller: Caller
    reference: str | None
    digest: Digest | None


def insert_audit_events(
    tx: Transaction,
    tenant_id: int,
    action: str,
    *,
    caller: Caller,
    repository: str | None,
    references: Sequence[str | None] = (None,),
    digest: Digest | None = None,
) -> None:
    """Remembers an action (``manifest.put``, ``tag.delete`` ...) on each of the references."""
    events = [AuditEvent(caller, reference, digest) for reference in references]
    insert_events(tx, tenant_id, action, repository=repository, events=events)


def insert_events(
    tx: Transaction, tenant_id: int, action: str, *, repository: str | None, events: Sequence[AuditEvent]
) -> None:
    """Remembers an action that several callers did, or that was done to several things."""
    callers = [event.caller for event in events]
    tx.queue(
        INSERT_AUDIT_EVENTS,
        tenant_id=tenant_id,
        action=action,
        repository=repository,
        actor_each=[caller.actor for caller in callers],
        account_id_each=[caller.account_id for caller in callers],
        token_id_each=[caller.token_id for caller in callers],
        reference_each=[event.reference for event in events],
        digest_each=[event.digest for event in events],
        client_address_each=[caller.client_address for caller in callers],
        user_agent_each=[caller.user_agent for caller in callers],
        request_id_each=[caller.request_id for caller in callers],
    )


_incidents = unnested(
    {
        **{name: Text() for name in Incident._fields},
        "account_id": BigInteger(),
        "digest": DigestType(),
        "times": BigInteger(),
        "request_id": Text(),
    },
    suffix="_each",
)
_tenant = select(tenants.c.id).where(tenants.c.name == _incidents.c.tenant).limit(ONE).scalar_subquery()
_TOLD: Final = (*Incident._fields[1:], "times", "request_id")

INSERT_INCIDENTS: Final = statement(
    "insert_incidents",
    "Refusals and logins of the last few seconds; those that were alike are one event with a count.",
    insert(audit_events).from_select(
        ["tenant_id", "id", *_TOLD],
        select(
            func.coalesce(_tenant, literal_column(str(SERVER_TENANT_ID), BigInteger())),
            _RANDOM,
            *(_incidents.c[name] for name in _TOLD),
        ),
    ),
    Nothing,
)


async def insert_incidents(tx: Transaction, found: Mapping[Incident, tuple[int, str]]) -> None:
    """Remembers them, each with how often it was, and the id of its first request."""
    columns = dict(zip(Incident._fields, map(list, zip(*found, strict=True)), strict=True))
    counts, request_ids = map(list, zip(*found.values(), strict=True))
    arrays = {**columns, "times": counts, "request_id": request_ids}
    await tx.all(INSERT_INCIDENTS, **{f"{name}_each": values for name, values in arrays.items()})


_MOVE_EVENTS: Final = """
with moved as (delete from audit_events_rest where at >= '{1}' and at < '{2}' returning *)
insert into {0} select * from moved
"""
_ATTACH_MONTH: Final = "alter table audit_events attach partition {0} for values from ('{1}') to ('{2}')"


def partition_statements(first: date, months: int) -> dict[str, list[str]]:
    """For each month from ``first`` on: the name of its partition, and DDL that makes it in one transaction.

    For the owner of the schema: ``distsql migrate`` runs what is missing, so that months are always ready ahead. Events
    of a month that nobody made ahead are in the partition of the rest, and move: a month can't be made beside them.
    """
    return {
        name: [
            f"create table {name} (like audit_events including defaults including constraints)",
            "lock table audit_events_rest in access exclusive mode",
            _MOVE_EVENTS.format(name, begin.isoformat(), end.isoformat()),
            _ATTACH_MONTH.format(name, begin.isoformat(), end.isoformat()),
        ]
        for name, begin, end in months_from(first, months)
    }
