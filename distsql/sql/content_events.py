"""Audit of what garbage collection and retention do to much content at once: statements."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Text, func, literal_column, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.digest import Digest
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import ACTOR, TENANT_ID, Nothing, parameter, statement, unnested
from distsql.sql.tables import audit_events, repositories, tenants
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType
from distsql.values import Caller

_RANDOM: Final = literal_column("(random() * 9007199254740991)::bigint", BigInteger())
RepositoryNames = Mapping[tuple[int, int], str]
"""What repositories are called in full, by tenant's id and their own."""


class RepositoryNameRow(NamedTuple):
    """What a repository is called in full."""

    tenant_id: int
    id: int
    name: str


_repository_keys = unnested({"tenant_id": BigInteger(), "repository_id": BigInteger()})

LIST_REPOSITORY_NAMES: Final = statement(
    "list_repository_names",
    "What some repositories are called, deleted ones too.",
    select(
        repositories.c.tenant_id,
        repositories.c.id,
        func.coalesce(tenants.c.name, tenants.c.deleted_name) + literal_column("'/'", Text()) + repositories.c.path,
    )
    .select_from(repositories.join(tenants, tenants.c.id == repositories.c.tenant_id))
    .where(tuple_(repositories.c.tenant_id, repositories.c.id).in_(select(*_repository_keys.c))),
    RepositoryNameRow,
)


async def list_repository_names(tx: Transaction, keys: Collection[tuple[int, int]]) -> RepositoryNames:
    """Of repositories, given by tenant's id and their own."""
    ordered = sorted(keys)
    rows = await tx.all(
        LIST_REPOSITORY_NAMES, tenant_ids=[key[0] for key in ordered], repository_ids=[key[1] for key in ordered]
    )
    return {(row.tenant_id, row.id): row.name for row in rows}


_named = unnested({"tenant_id": BigInteger(), "name": Text(), "digest": DigestType()})

INSERT_NAMED_EVENTS: Final = statement(
    "insert_named_events",
    "What was done to much content, of any tenants: one event for each. The repositories' names were read before, for "
    "that takes four locks more.",
    insert(audit_events).from_select(
        ["tenant_id", "id", "actor", "action", "repository", "digest"],
        select(_named.c.tenant_id, _RANDOM, ACTOR, parameter("action", Text()), _named.c.name, _named.c.digest),
    ),
    Nothing,
)


def insert_named_events(
    tx: Transaction,
    action: str,
    *,
    caller: Caller,
    contents: Sequence[tuple[int, int, Digest]],
    names: RepositoryNames,
) -> None:
    """Remembers an action on each content, which is given by tenant's id, repository's id and digest."""
    if contents:
        tx.queue(
            INSERT_NAMED_EVENTS,
            actor=caller.actor,
            action=action,
            tenant_ids=[tenant_id for tenant_id, _, _ in contents],
            names=[names[tenant_id, repository_id] for tenant_id, repository_id, _ in contents],
            digests=[digest for _, _, digest in contents],
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
