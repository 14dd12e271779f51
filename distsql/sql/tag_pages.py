"""Pages of tags. Statements."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import ARRAY, BigInteger, Text, func, select

from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import (
    ASKER,
    DIGEST,
    LIMIT,
    REPOSITORY_ID,
    TENANT_ID,
    askers,
    name_parameters,
    named_repository,
    parameter,
    statement,
)
from distsql.sql.tables import tags
from distsql.sql.tags import TagRow
from distsql.sql.transactions import Transaction


class TagPageRow(NamedTuple):
    """The names of a page."""

    names: list[str]


_asked = askers({"after": Text(collation="C"), "size": BigInteger()})
_joined, _repository = named_repository(_asked)
# As an array: one row, however many names, and none where there is no such repository.
_page = func.array(
    select(tags.c.name)
    .where(
        tags.c.tenant_id == _repository.c.tenant_id,
        tags.c.repository_id == _repository.c.id,
        tags.c.valid_to.is_(None),
        tags.c.name > _asked.c.after,
    )
    .order_by(tags.c.name)
    .limit(_asked.c.size)
    .correlate(_repository, _asked)
    .scalar_subquery(),
    type_=ARRAY(Text()),
)

LIST_TAGS: Final = statement(
    "list_tags",
    "A page of a repository's live tags, by name: an index range at any depth, found with the repository.",
    select(_asked.c[ASKER], _page.label("names")).select_from(_joined),
    TagPageRow,
    asked=_asked,
)


async def list_tags(tx: Transaction, name: RepositoryName, *, after: str, limit: int) -> list[str] | None:
    """Names of live tags behind ``after``; None when there is no such repository."""
    row = await tx.one(LIST_TAGS, **name_parameters(name), after=after, size=limit)
    return row.names if row else None


_AFTER: Final = parameter("after", Text(collation="C"))

LIST_TAGS_OF_DIGEST: Final = statement(
    "list_tags_of_digest",
    "A page of the live tags on one manifest.",
    select(tags.c.name)
    .where(
        tags.c.tenant_id == TENANT_ID,
        tags.c.repository_id == REPOSITORY_ID,
        tags.c.live_digest == DIGEST,
        tags.c.name > _AFTER,
    )
    .order_by(tags.c.name)
    .limit(LIMIT),
    TagRow,
)


async def list_tags_of_digest(
    tx: Transaction, repository: RepositoryRow, digest: Digest, *, after: str, limit: int
) -> list[TagRow]:
    """Names of the live tags that point to the digest, behind ``after``."""
    return await tx.all(
        LIST_TAGS_OF_DIGEST,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        digest=digest,
        after=after,
        limit=limit,
    )
