"""Many tags and manifests of one repository at once: locked, judged by somebody, and deleted. Statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ARRAY, Text, func, select, update

from distsql.oci.digest import Digest
from distsql.sql.garbage_queue import queued, queueing
from distsql.sql.manifest_deletions import PLACE
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import DIGESTS, REPOSITORY_ID, TENANT_ID, parameter, statement, unnested
from distsql.sql.tables import manifests, tags
from distsql.sql.tags import END_NOW
from distsql.sql.transactions import Transaction


class NamedRow(NamedTuple):
    """A tag, and what it points to."""

    name: str
    digest: Digest


class LockedRow(NamedTuple):
    """A manifest, and where its row is."""

    digest: Digest
    place: str


_NAMES: Final = parameter("names", ARRAY(Text(collation="C")))
_MANIFESTS: Final = (manifests.c.tenant_id == TENANT_ID, manifests.c.repository_id == REPOSITORY_ID)
_TAGS: Final = (tags.c.tenant_id == TENANT_ID, tags.c.repository_id == REPOSITORY_ID, tags.c.valid_to.is_(None))

LOCK_MANIFESTS: Final = statement(
    "lock_manifests",
    "Manifests that may have to go: nobody can refer to them until the end of the transaction.",
    select(manifests.c.digest, PLACE)
    .where(*_MANIFESTS, manifests.c.digest == func.any(DIGESTS), manifests.c.deleted_at.is_(None))
    .order_by(manifests.c.digest)
    .with_for_update(),
    LockedRow,
)

LOCK_TAGS: Final = statement(
    "lock_tags",
    "Tags that may have to go: nobody moves them until the end of the transaction.",
    select(tags.c.name, tags.c.digest)
    .where(*_TAGS, tags.c.name == func.any(_NAMES))
    .order_by(tags.c.name)
    .with_for_update(),
    NamedRow,
)


async def lock_content(
    tx: Transaction, repository: RepositoryRow, *, names: Sequence[str], digests: Sequence[Digest]
) -> tuple[set[str], dict[Digest, str]]:
    """Those of the tags and manifests that are there, these with their places; in the order in which pushes lock."""
    manifests_found = await tx.all(LOCK_MANIFESTS, **_ids(repository), digests=list(digests)) if digests else []
    tags_found = await tx.all(LOCK_TAGS, **_ids(repository), names=list(names)) if names else []
    return {row.name for row in tags_found}, {row.digest: row.place for row in manifests_found}


_ended = unnested({"name": Text(collation="C"), "actor": Text()})

_ended_rows = (
    update(tags)
    .where(*_TAGS, tags.c.name == _ended.c.name)
    .values(valid_to=END_NOW, ended_by=_ended.c.actor)
    .returning(tags.c.tenant_id, tags.c.repository_id, tags.c.name, tags.c.digest)
    .cte("ended_rows")
)

END_TAGS: Final = statement(
    "end_tags",
    "Tags end, each by somebody; their rows become history. Their manifests may be garbage.",
    select(_ended_rows.c.name, _ended_rows.c.digest).add_cte(
        queued(
            queueing(
                "manifest",
                tenant_id=_ended_rows.c.tenant_id,
                repository_id=_ended_rows.c.repository_id,
                digest=_ended_rows.c.digest,
            )
        ).cte("queued")
    ),
    NamedRow,
)


async def end_tags(tx: Transaction, repository: RepositoryRow, actors: Mapping[str, str]) -> list[NamedRow]:
    """Ends the tags, each by its actor; gives those that were live, and what they pointed to."""
    return await tx.all(END_TAGS, **_ids(repository), names=list(actors), actors=list(actors.values()))


def _ids(repository: RepositoryRow) -> dict[str, Any]:
    return {"tenant_id": repository.tenant_id, "repository_id": repository.id}
