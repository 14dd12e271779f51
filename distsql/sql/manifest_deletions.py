"""Manifests that are deleted: nobody sees them, and they are kept for as long as they can be restored. Statements.

What a deleted manifest referred to moves from `descriptors` to `kept_references`: descriptors are exactly the
references that count, kept ones hold bytes and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    FromClause,
    Insert,
    Text,
    any_,
    case,
    cast,
    delete,
    func,
    literal_column,
    null,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert
from sqlalchemy.types import UserDefinedType

from distsql.oci.digest import Digest
from distsql.sql.garbage_queue import queued, queueing
from distsql.sql.garbage_tables import kept_references
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import (
    ACTOR,
    DIGEST,
    REPOSITORY_ID,
    TENANT_ID,
    Nothing,
    parameter,
    statement,
    unnested,
)
from distsql.sql.tables import descriptors, layers, manifests, signatures
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType
from distsql.sql.usage import add_usage


class ManifestKeyRow(NamedTuple):
    """A manifest, by its key."""

    tenant_id: int
    repository_id: int
    digest: Digest


class PlacedManifestRow(NamedTuple):
    """A manifest that is locked, and where its row is."""

    tenant_id: int
    repository_id: int
    digest: Digest
    place: str

    @property
    def key(self) -> ManifestKeyRow:
        """Without its place."""
        return ManifestKeyRow(self.tenant_id, self.repository_id, self.digest)


class _Places(UserDefinedType[str]):
    """Places of rows, as many as there are."""

    cache_ok = True

    def get_col_spec(self, **options: object) -> str:
        """PostgreSQL's name of it."""
        del options
        return "tid[]"


_HERE: Final = (manifests.c.tenant_id == TENANT_ID, manifests.c.repository_id == REPOSITORY_ID)
_NO_TAGS: Final = literal_column("'{}'::text[]", ARRAY(Text()))
_SUBJECT: Final = literal_column("'subject'", Text())
_MANIFEST: Final = literal_column("'manifest'", Text())

# -- one, by a caller -------------------------------------------------------------------------------------------------


def _forgotten(*conditions: ColumnElement[bool]) -> CTE:
    return (
        delete(descriptors)
        .where(*conditions)
        .returning(
            descriptors.c.tenant_id,
            descriptors.c.repository_id,
            descriptors.c.manifest_digest,
            descriptors.c.digest,
            descriptors.c.role,
        )
        .cte("forgotten")
    )


def _keeping(forgotten: CTE) -> Insert:
    """What the manifests referred to is kept: their subject too, by which they are found when it is restored."""
    names = ["tenant_id", "repository_id", "manifest_digest", "digest"]
    kept = select(*(forgotten.c[name] for name in names)).distinct()
    return insert(kept_references).from_select(names, kept)


def _queueing(forgotten: CTE, deleted: FromClause) -> Insert:
    """The manifests' rows go later, their referrers follow; what they referred to may be garbage."""
    of_deleted = {
        "tenant_id": deleted.c.tenant_id,
        "repository_id": deleted.c.repository_id,
        "digest": deleted.c.digest,
    }
    of_forgotten = {
        "tenant_id": forgotten.c.tenant_id,
        "repository_id": forgotten.c.repository_id,
        "digest": forgotten.c.digest,
    }
    return queued(
        queueing("deleted_manifest", **of_deleted),
        queueing("subject", **of_deleted),
        # A child may be a blob: build caches are indexes of layers.
        queueing("layer", **of_forgotten).where(forgotten.c.role != _SUBJECT),
        queueing("manifest", **of_forgotten).where(forgotten.c.role == _MANIFEST),
    )


_forgotten_one = _forgotten(
    descriptors.c.tenant_id == TENANT_ID,
    descriptors.c.repository_id == REPOSITORY_ID,
    descriptors.c.manifest_digest == DIGEST,
)
_one = select(
    TENANT_ID.label("tenant_id"), REPOSITORY_ID.label("repository_id"), cast(DIGEST, DigestType).label("digest")
).subquery("deleted")

_released = (
    update(layers)
    .where(
        layers.c.tenant_id == TENANT_ID,
        layers.c.repository_id == REPOSITORY_ID,
        # As an array, so that the layers are looked up one by one. Joined, PostgreSQL may walk over all of a
        # repository's, for it believes that repositories have few.
        layers.c.digest
        == any_(func.array(select(_forgotten_one.c.digest).scalar_subquery(), type_=ARRAY(DigestType()))),
    )
    .values(needed_at=func.now())
    .cte("released")
)

DELETE_DESCRIPTORS: Final = statement(
    "delete_descriptors",
    "A deleted manifest refers to nothing. What it referred to is kept for a while, and queued; the blobs' grace "
    "begins.",
    _queueing(_forgotten_one, _one).add_cte(_keeping(_forgotten_one).cte("kept"), _released),
    Nothing,
)


def delete_references(tx: Transaction, repository: RepositoryRow, digest: Digest) -> None:
    """Forgets what a manifest that was marked as deleted needed: it is kept aside."""
    tx.queue(DELETE_DESCRIPTORS, tenant_id=repository.tenant_id, repository_id=repository.id, digest=digest)


# -- many, by garbage collection and retention ------------------------------------------------------------------------

# In three steps, each a transaction, for all in one would take more than twenty locks. What is released too early stays
# a little longer than it would have to, and signatures of a deleted manifest are shown to nobody: so who does it may be
# killed in between.

_keys = unnested({"tenant_id": BigInteger(), "repository_id": BigInteger(), "digest": DigestType()})
_IN_KEYS: Final = select(_keys.c.tenant_id, _keys.c.repository_id, _keys.c.digest)
_descriptor_owner = tuple_(descriptors.c.tenant_id, descriptors.c.repository_id, descriptors.c.manifest_digest)

RELEASE_LAYERS_OF_MANY: Final = statement(
    "release_layers_of_many",
    "Blobs that some manifests needed until now: their grace begins.",
    update(layers)
    .where(
        layers.c.tenant_id == descriptors.c.tenant_id,
        layers.c.repository_id == descriptors.c.repository_id,
        layers.c.digest == descriptors.c.digest,
        _descriptor_owner.in_(_IN_KEYS),
    )
    .values(needed_at=func.now()),
    Nothing,
)


def release_layers(tx: Transaction, keys: Sequence[ManifestKeyRow]) -> None:
    """The grace of all that the manifests need begins again, just before they are deleted."""
    tx.queue(RELEASE_LAYERS_OF_MANY, **key_arrays(keys))


PLACE: Final = literal_column("manifests.ctid::text", Text()).label("place")
"""Where a manifest's row is, which is so until the end of the transaction that has locked it."""

MARK_MANIFESTS_DELETED: Final = statement(
    "mark_manifests_deleted",
    "Locked manifests are deleted, found by their places: an index would be one more lock. Referrers are remembered to "
    "have followed their subject.",
    update(manifests)
    .where(
        literal_column("manifests.ctid") == any_(cast(parameter("places", ARRAY(Text())), _Places())),
        manifests.c.deleted_at.is_(None),
    )
    .values(
        deleted_at=func.now(),
        deleted_by=ACTOR,
        followed_digest=case((parameter("following", Boolean()), manifests.c.subject_digest), else_=null()),
        deleted_signatures=null(),
        deleted_tags=_NO_TAGS,
    )
    .returning(manifests.c.tenant_id, manifests.c.repository_id, manifests.c.digest),
    ManifestKeyRow,
)

_forgotten_many = _forgotten(_descriptor_owner.in_(_IN_KEYS))

DELETE_DESCRIPTORS_OF_MANY: Final = statement(
    "delete_descriptors_of_many",
    "Deleted manifests refer to nothing. What they referred to is kept for a while, and queued.",
    _queueing(_forgotten_many, _keys).add_cte(_keeping(_forgotten_many).cte("kept")),
    Nothing,
)


async def delete_manifests(
    tx: Transaction, rows: Sequence[PlacedManifestRow], *, actor: str, following: bool = False
) -> list[ManifestKeyRow]:
    """Deletes manifests without tags, which this transaction has locked. They count no more.

    `release_layers` comes before, `take_signatures` afterwards.
    """
    places = [row.place for row in rows]
    deleted = await tx.all(MARK_MANIFESTS_DELETED, actor=actor, following=following, places=places)
    if set(deleted) != {row.key for row in rows}:
        raise AssertionError("rows that are locked stay where they are")
    if deleted:
        tx.queue(DELETE_DESCRIPTORS_OF_MANY, **key_arrays(deleted))
    for tenant_id, count in sorted(Counter(row.tenant_id for row in deleted).items()):
        add_usage(tx, tenant_id, manifests=-count)
    return deleted


_gone = (
    select(manifests.c.tenant_id, manifests.c.repository_id, manifests.c.digest)
    .where(
        manifests.c.tenant_id == _keys.c.tenant_id,
        manifests.c.repository_id == _keys.c.repository_id,
        manifests.c.digest == _keys.c.digest,
        manifests.c.deleted_at.is_not(None),
    )
    .limit(literal_column("1", BigInteger()))
    .with_for_update(skip_locked=True)
    .lateral("gone")
)

LOCK_DELETED: Final = statement(
    "lock_deleted",
    "Those of some manifests that are deleted, so that nobody pushes or restores them just now.",
    select(*_gone.c).select_from(_keys.join(_gone, true())),
    ManifestKeyRow,
)

_taken = (
    delete(signatures)
    .where(tuple_(signatures.c.tenant_id, signatures.c.repository_id, signatures.c.manifest_digest).in_(_IN_KEYS))
    .returning(
        signatures.c.tenant_id,
        signatures.c.repository_id,
        signatures.c.manifest_digest,
        signatures.c.id,
        signatures.c.payload,
    )
    .cte("taken")
)
_of_each = (
    select(
        _taken.c.tenant_id,
        _taken.c.repository_id,
        _taken.c.manifest_digest,
        func.array_agg(aggregate_order_by(_taken.c.payload, _taken.c.id)).label("payloads"),
    )
    .group_by(_taken.c.tenant_id, _taken.c.repository_id, _taken.c.manifest_digest)
    .subquery("of_each")
)

TAKE_SIGNATURES: Final = statement(
    "take_signatures",
    "Deleted manifests keep their signatures to themselves: pushed again they are unsigned, restored they are signed.",
    update(manifests)
    .where(
        manifests.c.tenant_id == _of_each.c.tenant_id,
        manifests.c.repository_id == _of_each.c.repository_id,
        manifests.c.digest == _of_each.c.manifest_digest,
    )
    .values(deleted_signatures=_of_each.c.payloads),
    Nothing,
)


async def take_signatures(tx: Transaction, keys: Sequence[ManifestKeyRow]) -> None:
    """Of those of the manifests that are deleted, and that nobody works with just now."""
    locked = await tx.all(LOCK_DELETED, **key_arrays(keys)) if keys else []
    if locked:
        tx.queue(TAKE_SIGNATURES, **key_arrays(locked))


def key_arrays(keys: Sequence[ManifestKeyRow]) -> dict[str, list[Any]]:
    """Parameters of statements over manifests or layers by key."""
    return {
        "tenant_ids": [key.tenant_id for key in keys],
        "repository_ids": [key.repository_id for key in keys],
        "digests": [key.digest for key in keys],
    }
