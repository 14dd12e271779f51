"""One manifest is deleted, by a caller: marked so, together with the tags on it. Statements."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import ARRAY, Text, cast, delete, func, literal_column, null, select, update
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.types import UserDefinedType

from distsql.oci.digest import Digest
from distsql.sql.manifest_deletions import PLACE
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import ACTOR, DIGEST, REPOSITORY_ID, TENANT_ID, parameter, statement
from distsql.sql.tables import manifests, signatures, tags
from distsql.sql.tags import END_NOW
from distsql.sql.transactions import Transaction


class PlaceRow(NamedTuple):
    """Where a row is that is locked."""

    place: str


class EndedTagsRow(NamedTuple):
    """The tags that ended with a manifest."""

    tags: list[str]


class _Place(UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self, **options: object) -> str:
        """PostgreSQL's name of it."""
        del options
        return "tid"


_HERE: Final = (manifests.c.tenant_id == TENANT_ID, manifests.c.repository_id == REPOSITORY_ID)

LOCK_MANIFEST: Final = statement(
    "lock_manifest",
    "A manifest that is about to be deleted, once those who refer to it just now are done: nobody else can.",
    select(PLACE)
    .where(*_HERE, manifests.c.digest == DIGEST, manifests.c.deleted_at.is_(None))
    .with_for_update(key_share=True),
    PlaceRow,
)

_ended = (
    update(tags)
    .where(tags.c.tenant_id == TENANT_ID, tags.c.repository_id == REPOSITORY_ID, tags.c.live_digest == DIGEST)
    .values(valid_to=END_NOW, ended_by=ACTOR)
    .returning(tags.c.name)
    .cte("ended")
)
_forgotten = (
    delete(signatures)
    .where(
        signatures.c.tenant_id == TENANT_ID,
        signatures.c.repository_id == REPOSITORY_ID,
        signatures.c.manifest_digest == DIGEST,
    )
    .returning(signatures.c.id, signatures.c.payload)
    .cte("forgotten")
)
_taken = select(func.array_agg(aggregate_order_by(_forgotten.c.payload, _forgotten.c.id))).scalar_subquery()

MARK_MANIFEST_DELETED: Final = statement(
    "mark_manifest_deleted",
    "A manifest is deleted, and all tags on it end: it is there for nobody. Pushed again it is unsigned; restored, it "
    "has its tags and signatures, which its row keeps. That is found by its place: an index would be one more lock.",
    # In one update: a second one of the same row would look for its repository again, and lock that.
    update(manifests)
    .where(literal_column("manifests.ctid") == cast(parameter("place", Text()), _Place()))
    .values(
        deleted_at=func.now(),
        deleted_by=ACTOR,
        followed_digest=null(),
        deleted_signatures=_taken,
        deleted_tags=func.array(select(_ended.c.name).scalar_subquery(), type_=ARRAY(Text())),
    )
    .returning(manifests.c.deleted_tags),
    EndedTagsRow,
)


async def lock_manifest(tx: Transaction, repository: RepositoryRow, digest: Digest) -> str | None:
    """Where the manifest's row is, if it is there.

    Nobody else refers to it from here on, and who did is visible from here on.
    """
    row = await tx.one(LOCK_MANIFEST, digest=digest, **_ids(repository))
    return row.place if row else None


async def mark_manifest_deleted(
    tx: Transaction, repository: RepositoryRow, digest: Digest, *, place: str, actor: str
) -> list[str]:
    """Deletes a manifest that is locked at its place: gives the tags that pointed to it until now."""
    row = await tx.one(MARK_MANIFEST_DELETED, digest=digest, place=place, actor=actor, **_ids(repository))
    if row is None:
        raise AssertionError("a row that is locked stays where it is")
    return row.tags


def _ids(repository: RepositoryRow) -> dict[str, int]:
    return {"tenant_id": repository.tenant_id, "repository_id": repository.id}
