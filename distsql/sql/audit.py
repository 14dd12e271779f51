"""Audit: what was changed, by whom; written in the transaction of the change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy import BigInteger, Text, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.digest import Digest
from distsql.sql.database import Transaction
from distsql.sql.statements import ACTOR, DIGEST, TENANT_ID, Nothing, parameter, statement, unnested
from distsql.sql.tables import audit_events
from distsql.values import Caller

_new = unnested({"reference": Text()})

INSERT_AUDIT_EVENTS: Final = statement(
    "insert_audit_events",
    "What was done; one event for each reference.",
    insert(audit_events).from_select(
        [
            "tenant_id",
            "id",
            "actor",
            "action",
            "repository",
            "reference",
            "digest",
            "client_address",
            "user_agent",
            "request_id",
        ],
        select(
            TENANT_ID,
            literal_column("(random() * 9007199254740991)::bigint", BigInteger()),
            ACTOR,
            parameter("action", Text()),
            parameter("repository", Text()),
            _new.c.reference,
            DIGEST,
            parameter("client_address", Text()),
            parameter("user_agent", Text()),
            parameter("request_id", Text()),
        ),
    ),
    Nothing,
)


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
    tx.queue(
        INSERT_AUDIT_EVENTS,
        tenant_id=tenant_id,
        actor=caller.actor,
        action=action,
        repository=repository,
        references=list(references),
        digest=digest,
        client_address=caller.client_address,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
    )


_MOVE_EVENTS: Final = """
with moved as (delete from audit_events_rest where at >= '{1}' and at < '{2}' returning *)
insert into {0} select * from moved
"""


def partition_statements(first: date, months: int) -> dict[str, list[str]]:
    """For each month from ``first`` on: the name of its partition, and DDL that makes it in one transaction.

    For the owner of the schema: ``distsql migrate`` runs what is missing, so that months are always ready ahead. Events
    of a month that nobody made ahead are in the partition of the rest, and move: a month can't be made beside them.
    """
    statements = {}
    begin = datetime(first.year, first.month, 1, tzinfo=UTC)
    for _ in range(months):
        end = (begin + timedelta(days=31)).replace(day=1)
        name, bounds = f"audit_events_{begin:%Y_%m}", (begin.isoformat(), end.isoformat())
        statements[name] = [
            f"create table {name} (like audit_events including defaults including constraints)",
            "lock table audit_events_rest in access exclusive mode",
            _MOVE_EVENTS.format(name, *bounds),
            f"alter table audit_events attach partition {name} for values from ('{bounds[0]}') to ('{bounds[1]}')",
        ]
        begin = end
    return statements
