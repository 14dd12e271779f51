"""What nothing refers to: finding it, and taking it out under locks that pushes respect. Statements.

Candidates are locked first and judged in a second statement, which sees everything that was committed before the lock:
judged in one statement, a reference that was just made would be missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Interval,
    Text,
    delete,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
    update,
)

from distsql.oci.digest import Digest
from distsql.sql.database import Transaction
from distsql.sql.statements import DIGEST, LIMIT, TENANT_ID, Nothing, parameter, statement, unnested
from distsql.sql.tables import blobs, descriptors, layers, manifests, repositories, tags, tenants, uploads
from distsql.sql.types import DigestType
from distsql.sql.uploads import EndedUploadRow
from distsql.sql.usage import add_usage


class ContentRow(NamedTuple):
    """A manifest or a blob of a repository."""

    tenant_id: int
    repository_id: int
    digest: Digest
    repository: str


class KeyRow(NamedTuple):
    """A manifest or blob of a repository, by key."""

    tenant_id: int
    repository_id: int
    digest: Digest


class GarbageBlobRow(NamedTuple):
    """A blob that no repository has, and where its bytes are."""

    tenant_id: int
    digest: Digest
    length: int
    store_key: str


class StoreKeyRow(NamedTuple):
    """A key of the byte store that a row names."""

    store_key: str


_BEFORE: Final = func.now() - parameter("grace", Interval())
_LIVE: Final = literal_column("'live'", Text())
_CONDEMNED: Final = literal_column("'condemned'", Text())
_SUBJECT: Final = literal_column("'subject'", Text())
_KEYS: Final = unnested({"tenant_id": BigInteger(), "repository_id": BigInteger(), "digest": DigestType()})
_FULL_NAME: Final = (
    select(tenants.c.name + literal_column("'/'", Text()) + repositories.c.path)
    .where(tenants.c.id == repositories.c.tenant_id)
    .scalar_subquery()
)

# -- manifests ---------------------------------------------------------------------------------------------------------

_subjects = manifests.alias("subject")


def _unreferenced_manifest() -> tuple[ColumnElement[bool], ...]:
    """Neither tagged (nor so within the grace), nor a child, nor about a subject that is there."""
    here = (
        descriptors.c.tenant_id == manifests.c.tenant_id,
        descriptors.c.digest == manifests.c.digest,
        descriptors.c.repository_id == manifests.c.repository_id,
    )
    return (
        manifests.c.deleted_at.is_(None),
        manifests.c.pushed_at <= _BEFORE,
        ~select(tags.c.name)
        .where(
            tags.c.tenant_id == manifests.c.tenant_id,
            tags.c.repository_id == manifests.c.repository_id,
            tags.c.digest == manifests.c.digest,
            or_(tags.c.valid_to.is_(None), tags.c.valid_to > _BEFORE),
        )
        .exists(),
        ~select(descriptors.c.digest).where(*here, descriptors.c.role != _SUBJECT).exists(),
        ~select(_subjects.c.digest)
        .where(
            _subjects.c.tenant_id == manifests.c.tenant_id,
            _subjects.c.repository_id == manifests.c.repository_id,
            _subjects.c.digest == manifests.c.subject_digest,
            _subjects.c.deleted_at.is_(None),
        )
        .exists(),
    )


_manifest_key = (manifests.c.tenant_id, manifests.c.repository_id, manifests.c.digest)

LOCK_GARBAGE_MANIFESTS: Final = statement(
    "lock_garbage_manifests",
    "Manifests that nothing seems to refer to; those that somebody works with are left for the next run.",
    select(*_manifest_key, _FULL_NAME.label("repository"))
    .select_from(
        manifests.join(
            repositories,
            (repositories.c.tenant_id == manifests.c.tenant_id) & (repositories.c.id == manifests.c.repository_id),
        )
    )
    .where(*_unreferenced_manifest())
    .order_by(*_manifest_key)
    .limit(LIMIT)
    .with_for_update(of=manifests, skip_locked=True),
    ContentRow,
)

DELETE_GARBAGE_MANIFESTS: Final = statement(
    "delete_garbage_manifests",
    "Those of the locked manifests that nothing refers to indeed.",
    delete(manifests)
    .where(
        tuple_(*_manifest_key).in_(select(_KEYS.c.tenant_id, _KEYS.c.repository_id, _KEYS.c.digest)),
        *_unreferenced_manifest(),
    )
    .returning(*_manifest_key),
    KeyRow,
)


async def lock_garbage_manifests(tx: Transaction, *, grace: timedelta, limit: int) -> list[ContentRow]:
    """Manifests to judge, locked."""
    return await tx.all(LOCK_GARBAGE_MANIFESTS, grace=grace, limit=limit)


async def delete_garbage_manifests(
    tx: Transaction, candidates: Sequence[ContentRow], *, grace: timedelta
) -> list[KeyRow]:
    """Deletes those of the locked manifests that are garbage, and gives them. They count no more."""
    deleted = await tx.all(DELETE_GARBAGE_MANIFESTS, grace=grace, **_arrays(candidates))
    for tenant_id, count in sorted(Counter(row.tenant_id for row in deleted).items()):
        add_usage(tx, tenant_id, manifests=-count)
    return deleted


# -- what a repository may see -----------------------------------------------------------------------------------------


def _unreferenced_layer() -> tuple[ColumnElement[bool], ...]:
    return (
        layers.c.needed_at <= _BEFORE,
        ~select(descriptors.c.digest)
        .where(
            descriptors.c.tenant_id == layers.c.tenant_id,
            descriptors.c.digest == layers.c.digest,
            descriptors.c.repository_id == layers.c.repository_id,
            descriptors.c.role != _SUBJECT,
        )
        .exists(),
    )


_layer_key = (layers.c.tenant_id, layers.c.repository_id, layers.c.digest)

LOCK_GARBAGE_LAYERS: Final = statement(
    "lock_garbage_layers",
    "Blobs of repositories that no manifest there seems to refer to.",
    select(*_layer_key, _FULL_NAME.label("repository"))
    .select_from(
        layers.join(
            repositories,
            (repositories.c.tenant_id == layers.c.tenant_id) & (repositories.c.id == layers.c.repository_id),
        )
    )
    .where(*_unreferenced_layer())
    .order_by(*_layer_key)
    .limit(LIMIT)
    .with_for_update(of=layers, skip_locked=True),
    ContentRow,
)

DELETE_GARBAGE_LAYERS: Final = statement(
    "delete_garbage_layers",
    "Those of the locked ones that no manifest refers to indeed.",
    delete(layers)
    .where(
        tuple_(*_layer_key).in_(select(_KEYS.c.tenant_id, _KEYS.c.repository_id, _KEYS.c.digest)),
        *_unreferenced_layer(),
    )
    .returning(*_layer_key),
    KeyRow,
)


async def lock_garbage_layers(tx: Transaction, *, grace: timedelta, limit: int) -> list[ContentRow]:
    """Blobs of repositories to judge, locked."""
    return await tx.all(LOCK_GARBAGE_LAYERS, grace=grace, limit=limit)


async def delete_garbage_layers(tx: Transaction, candidates: Sequence[ContentRow], *, grace: timedelta) -> list[KeyRow]:
    """Takes those of the locked ones that are garbage out of their repositories, and gives them."""
    return await tx.all(DELETE_GARBAGE_LAYERS, grace=grace, **_arrays(candidates))


def _arrays(candidates: Sequence[ContentRow]) -> dict[str, list[Any]]:
    return {
        "tenant_ids": [row.tenant_id for row in candidates],
        "repository_ids": [row.repository_id for row in candidates],
        "digests": [row.digest for row in candidates],
    }


# -- bytes -------------------------------------------------------------------------------------------------------------

_no_repository = (
    ~select(layers.c.digest).where(layers.c.tenant_id == blobs.c.tenant_id, layers.c.digest == blobs.c.digest).exists()
)
_blob = (blobs.c.tenant_id, blobs.c.digest, blobs.c.length, blobs.c.store_key)

LOCK_GARBAGE_BLOBS: Final = statement(
    "lock_garbage_blobs",
    "Blobs that no repository seems to have.",
    select(*_blob)
    .where(blobs.c.state == _LIVE, _no_repository)
    .order_by(blobs.c.tenant_id, blobs.c.digest)
    .limit(LIMIT)
    .with_for_update(skip_locked=True),
    GarbageBlobRow,
)

CONDEMN_BLOBS: Final = statement(
    "condemn_blobs",
    "Those of the locked blobs that no repository has indeed. Whoever pushes one again gives it new bytes.",
    update(blobs)
    .where(tuple_(blobs.c.tenant_id, blobs.c.digest).in_(select(_KEYS.c.tenant_id, _KEYS.c.digest)), _no_repository)
    .values(state=_CONDEMNED, condemned_at=func.now())
    .returning(*_blob),
    GarbageBlobRow,
)

LIST_CONDEMNED_BLOBS: Final = statement(
    "list_condemned_blobs",
    "A page of the blobs whose bytes are to be deleted, also those that a killed run left.",
    select(*_blob)
    .where(
        blobs.c.state != _LIVE,
        tuple_(blobs.c.tenant_id, blobs.c.digest) > tuple_(TENANT_ID, parameter("after", DigestType())),
    )
    .order_by(blobs.c.tenant_id, blobs.c.digest)
    .limit(LIMIT),
    GarbageBlobRow,
)

DELETE_CONDEMNED_BLOB: Final = statement(
    "delete_condemned_blob",
    "A blob whose bytes are gone, unless it was pushed again meanwhile.",
    delete(blobs).where(
        blobs.c.tenant_id == TENANT_ID,
        blobs.c.digest == DIGEST,
        blobs.c.state != _LIVE,
        blobs.c.store_key == parameter("store_key", Text()),
    ),
    Nothing,
)


async def lock_garbage_blobs(tx: Transaction, *, limit: int) -> list[GarbageBlobRow]:
    """Blobs to judge, locked."""
    return await tx.all(LOCK_GARBAGE_BLOBS, limit=limit)


async def condemn_blobs(tx: Transaction, candidates: Sequence[GarbageBlobRow]) -> list[GarbageBlobRow]:
    """Condemns those of the locked blobs that are garbage, and gives them. Their tenants don't use them any more."""
    condemned = await tx.all(
        CONDEMN_BLOBS,
        tenant_ids=[row.tenant_id for row in candidates],
        repository_ids=[0 for _ in candidates],
        digests=[row.digest for row in candidates],
    )
    for tenant_id in sorted({row.tenant_id for row in condemned}):
        add_usage(tx, tenant_id, stored_bytes=-sum(row.length for row in condemned if row.tenant_id == tenant_id))
    return condemned


async def list_condemned_blobs(tx: Transaction, *, after: tuple[int, bytes], limit: int) -> list[GarbageBlobRow]:
    """Condemned blobs behind ``after`` (tenant's id, packed digest)."""
    return await tx.all(LIST_CONDEMNED_BLOBS, tenant_id=after[0], after=after[1], limit=limit)


async def delete_condemned_blobs(tx: Transaction, *, blobs: Sequence[GarbageBlobRow]) -> None:
    """Forgets blobs whose bytes are gone."""
    for blob in blobs:
        tx.queue(DELETE_CONDEMNED_BLOB, tenant_id=blob.tenant_id, digest=blob.digest, store_key=blob.store_key)


# -- uploads and orphans -----------------------------------------------------------------------------------------------

_expired = (
    select(uploads.c.tenant_id, uploads.c.repository_id, uploads.c.uuid)
    .where(uploads.c.expires_at <= func.now())
    .limit(LIMIT)
    .with_for_update(skip_locked=True)
    .subquery("expired")
)

DELETE_EXPIRED_UPLOADS: Final = statement(
    "delete_expired_uploads",
    "Sessions whose time is over; their bytes are deleted afterwards.",
    delete(uploads)
    .where(
        tuple_(uploads.c.tenant_id, uploads.c.repository_id, uploads.c.uuid).in_(
            select(_expired.c.tenant_id, _expired.c.repository_id, _expired.c.uuid)
        )
    )
    .returning(uploads.c.uuid, uploads.c.offset_bytes, uploads.c.store_key, uploads.c.store_state),
    EndedUploadRow,
)


async def delete_expired_uploads(tx: Transaction, *, limit: int) -> list[EndedUploadRow]:
    """Ends sessions that have expired, and gives them."""
    return await tx.all(DELETE_EXPIRED_UPLOADS, limit=limit)


_STORE_KEYS: Final = parameter("store_keys", ARRAY(Text()))

FIND_STORE_KEYS: Final = statement(
    "find_store_keys",
    "Which of these keys of the byte store a row names, as a blob or as an upload: in one snapshot.",
    union_all(
        select(blobs.c.store_key).where(blobs.c.store_key == func.any(_STORE_KEYS)),
        select(uploads.c.store_key).where(uploads.c.store_key == func.any(_STORE_KEYS)),
    ),
    StoreKeyRow,
)


async def find_store_keys(tx: Transaction, keys: Sequence[str]) -> set[str]:
    """Those of the keys that the catalogue knows."""
    return {row.store_key for row in await tx.all(FIND_STORE_KEYS, store_keys=list(keys))}
