"""Audit of what garbage collection and retention do to much content at once: statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Text, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.digest import Digest
from distsql.sql.database import Transaction
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import ACTOR, TENANT_ID, Nothing, parameter, statement, unnested
from distsql.sql.tables import audit_events, repositories, tenants
from distsql.sql.types import DigestType
from distsql.values import Caller

_RANDOM: Final = literal_column("(random() * 9007199254740991)::bigint", BigInteger())
_contents = unnested({"tenant_id": BigInteger(), "repository_id": BigInteger(), "digest": DigestType()})
_full_name = (
    select(func.coalesce(tenants.c.name, tenants.c.deleted_name) + literal_column("'/'", Text()) + repositories.c.path)
    .select_from(repositories.join(tenants, tenants.c.id == repositories.c.tenant_id))
    .where(repositories.c.tenant_id == _contents.c.tenant_id, repositories.c.id == _contents.c.repository_id)
    .scalar_subquery()
)

INSERT_CONTENT_EVENTS: Final = statement(
    "insert_content_events",
    "What was done to much content, of any tenants: one event for each.",
    insert(audit_events).from_select(
        ["tenant_id", "id", "actor", "action", "repository", "digest"],
        select(
            _contents.c.tenant_id,
            _RANDOM,
            ACTOR,
            parameter("action", Text()),
            _full_name,
            _contents.c.digest,
        ),
    ),
    Nothing,
)


def insert_content_events(
    tx: Transaction, action: str, *, caller: Caller, contents: Sequence[tuple[int, int, Digest]]
) -> None:
    """Remembers an action on each content, which is given by tenant's id, repository's id and digest."""
    if contents:
        tenant_ids, repository_ids, digests = zip(*contents, strict=True)
        tx.queue(
            INSERT_CONTENT_EVENTS,
            actor=caller.actor,
            action=action,
            tenant_ids=list(tenant_ids),
            repository_ids=list(repository_ids),
            digests=list(digests),
        )


class ContentEvent(NamedTuple):
    """What became of a tag or manifest, and by whom."""

    actor: str
    action: str
    reference: str | None
    digest: Digest


_events = unnested({"actor": Text(), "action": Text(), "reference": Text(), "digest": DigestType()}, suffix="_each")

INSERT_EVENTS_OF_REPOSITORY: Final = statement(
    "insert_events_of_repository",
    "What was done to much content of one repository, each by somebody: one event for each.",
    insert(audit_events).from_select(
        ["tenant_id", "id", "actor", "action", "repository", "reference", "digest"],
        select(
            TENANT_ID,
            _RANDOM,
            _events.c.actor,
            _events.c.action,
            parameter("repository", Text()),
            _events.c.reference,
            _events.c.digest,
        ),
    ),
    Nothing,
)


def insert_events_of_repository(
    tx: Transaction, repository: RepositoryRow, name: str, events: Sequence[ContentEvent]
) -> None:
    """Remembers the events of the repository, which has this full name."""
    if events:
        columns = dict(zip(ContentEvent._fields, map(list, zip(*events, strict=True)), strict=True))
        arrays = {f"{field}_each": values for field, values in columns.items()}
        tx.queue(INSERT_EVENTS_OF_REPOSITORY, tenant_id=repository.tenant_id, repository=name, **arrays)
