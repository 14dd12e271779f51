"""Blobs, and the repositories that may see them: statements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    FromClause,
    Select,
    TableValuedAlias,
    Text,
    case,
    delete,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.sql.garbage_queue import queued, queueing
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import (
    ASKER,
    DIGEST,
    LIMIT,
    ONE,
    REPOSITORY_ID,
    TENANT,
    TENANT_ID,
    Nothing,
    asked_statement,
    name_parameters,
    named_repository,
    parameter,
    statement,
)
from distsql.sql.stores import store_of
from distsql.sql.tables import blobs, layers, manifests, repositories, tenants
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType
from distsql.sql.usage import add_usage


class BlobRow(NamedTuple):
    """A blob that may be read: where its bytes are, and how many."""

    digest: Digest
    length: int
    store_key: str
    created_at: datetime


class LayerRow(NamedTuple):
    """A blob that a repository has."""

    digest: Digest


class HolderRow(NamedTuple):
    """A repository that holds some content."""

    tenant: str
    path: str


_STATE_LIVE: Final = literal_column("'live'", Text())
# Bytes that verification found damaged: the blob is there for manifests, and for readers when it has been pushed again.
_LOST: Final = func.starts_with(blobs.c.store_key, literal_column("'lost:'", Text()), type_=Boolean())
_READABLE: Final = (blobs.c.state == _STATE_LIVE) & ~_LOST
_BLOB: Final = (blobs.c.digest, blobs.c.length, blobs.c.store_key, blobs.c.created_at)
_STORE_KEY: Final = parameter("store_key", Text())


# -- reading ----------------------------------------------------------------------------------------------------------


def write_layer(asked: TableValuedAlias, tell: Callable[[FromClause], Sequence[ColumnElement[Any]]]) -> Select[Any]:
    """From names to a readable blob of the repository; and what ``tell`` says of its row of ``layers`` there."""
    joined, repository = named_repository(asked)
    layer = (
        select(layers.c.digest, *tell(repository))
        .where(
            layers.c.tenant_id == repository.c.tenant_id,
            layers.c.repository_id == repository.c.id,
            layers.c.digest == asked.c.digest,
        )
        .limit(ONE)
        .lateral("layer")
    )
    blob = (
        select(*_BLOB)
        .where(blobs.c.tenant_id == repository.c.tenant_id, blobs.c.digest == layer.c.digest, _READABLE)
        .limit(ONE)
        .lateral("blob")
    )
    _, *told = layer.c
    return select(asked.c[ASKER], *blob.c, *told).select_from(joined.join(layer, true()).join(blob, true()))


FIND_LAYER: Final = asked_statement(
    "find_layer",
    "GET of a blob: one statement from names to the bytes' key.",
    partial(write_layer, tell=lambda _: ()),
    BlobRow,
    asking={"digest": DigestType()},
)


async def find_layer(tx: Transaction, name: RepositoryName, digest: Digest) -> BlobRow | None:
    """The blob, if the repository has it."""
    return await tx.one(FIND_LAYER, **name_parameters(name), digest=digest)


_AFTER_TENANT: Final = parameter("after_tenant", Text(collation="C"))
_AFTER_PATH: Final = parameter("after_path", Text(collation="C"))
_holding = (
    select(layers.c.tenant_id, layers.c.repository_id)
    .where(layers.c.digest == DIGEST)
    .union(
        select(manifests.c.tenant_id, manifests.c.repository_id).where(
            manifests.c.digest == DIGEST, manifests.c.deleted_at.is_(None)
        )
    )
    .subquery("holding")
)
_prefix = tenants.c.name + literal_column("'/'", Text())

LIST_HOLDERS: Final = statement(
    "list_holders",
    "A page of the repositories that have some content, as a blob or as a manifest. For people, not for requests.",
    select(tenants.c.name, repositories.c.path)
    .select_from(
        _holding.join(
            repositories,
            (repositories.c.tenant_id == _holding.c.tenant_id) & (repositories.c.id == _holding.c.repository_id),
        ).join(tenants, tenants.c.id == repositories.c.tenant_id)
    )
    .where(
        repositories.c.deleted_at.is_(None),
        tuple_(_prefix, repositories.c.path) > tuple_(_AFTER_TENANT, _AFTER_PATH),
        or_(TENANT.is_(None), tenants.c.name == TENANT),
    )
    .order_by(_prefix, repositories.c.path)
    .limit(LIMIT),
    HolderRow,
)


async def list_holders(
    tx: Transaction, digest: Digest, *, tenant: str | None, after: tuple[str, str], limit: int
) -> list[HolderRow]:
    """Names behind ``after`` (tenant, path); of one tenant, or of all."""
    return await tx.all(
        LIST_HOLDERS, tenant=tenant, digest=digest, after_tenant=after[0] + "/", after_path=after[1], limit=limit
    )


# -- writing ----------------------------------------------------------------------------------------------------------

_new_blob = insert(blobs).values(
    tenant_id=TENANT_ID,
    digest=DIGEST,
    length=parameter("length", BigInteger()),
    store_key=_STORE_KEY,
    store=store_of(_STORE_KEY),
)

INSERT_BLOB: Final = statement(
    "insert_blob",
    "A blob whose bytes are durable. One that is live keeps its bytes, a condemned one lives on with the new ones.",
    # An update in any case: it locks the row, so that garbage collection waits, and sees the link that follows.
    _new_blob.on_conflict_do_update(
        index_elements=[blobs.c.tenant_id, blobs.c.digest],
        set_={
            "store_key": case((blobs.c.state == _STATE_LIVE, blobs.c.store_key), else_=_new_blob.excluded.store_key),
            "store": case((blobs.c.state == _STATE_LIVE, blobs.c.store), else_=_new_blob.excluded.store),
            "state": _STATE_LIVE,
            "condemned_at": null(),
        },
    ).returning(*_BLOB),
    BlobRow,
)


async def insert_blob(tx: Transaction, tenant_id: int, digest: Digest, *, length: int, store_key: str) -> BlobRow:
    """The blob as it is now: with another ``store_key`` than the one given when the tenant had the content already."""
    row = await tx.one(INSERT_BLOB, tenant_id=tenant_id, digest=digest, length=length, store_key=store_key)
    if row is None:
        raise AssertionError("an upsert gives its row")
    return row


def count_blob(tx: Transaction, tenant_id: int, blob: BlobRow, *, store_key: str) -> None:
    """Counts the blob in the tenant's usage, if it came to be with the bytes of this key. Comes last."""
    if blob.store_key == store_key:
        add_usage(tx, tenant_id, stored_bytes=blob.length)


REPLACE_BYTES: Final = statement(
    "replace_bytes",
    "A blob whose bytes the store has lost gets those that were just pushed.",
    blobs.update()
    .where(
        blobs.c.tenant_id == TENANT_ID,
        blobs.c.digest == DIGEST,
        blobs.c.store_key == parameter("lost_key", Text()),
    )
    .values(store_key=_STORE_KEY, store=store_of(_STORE_KEY))
    .returning(*_BLOB),
    BlobRow,
)


async def replace_bytes(
    tx: Transaction, tenant_id: int, digest: Digest, *, lost_key: str, store_key: str
) -> BlobRow | None:
    """The blob with its new bytes, or None when somebody else was faster."""
    return await tx.one(REPLACE_BYTES, tenant_id=tenant_id, digest=digest, lost_key=lost_key, store_key=store_key)


_LENGTH: Final = parameter("length", BigInteger())
_linked = (
    insert(layers)
    .values(tenant_id=TENANT_ID, repository_id=REPOSITORY_ID, digest=DIGEST, length=_LENGTH)
    .on_conflict_do_update(
        index_elements=[layers.c.tenant_id, layers.c.repository_id, layers.c.digest],
        # Pushed again: its grace begins again.
        set_={"needed_at": func.now(), "length": _LENGTH},
    )
    .returning(layers.c.tenant_id, layers.c.repository_id, layers.c.digest)
    .cte("linked")
)

INSERT_LAYER: Final = statement(
    "insert_layer",
    "A repository may see a blob of its tenant. Perhaps no manifest follows: it is queued.",
    queued(
        queueing("layer", tenant_id=_linked.c.tenant_id, repository_id=_linked.c.repository_id, digest=_linked.c.digest)
    ),
    Nothing,
)


def insert_layer(tx: Transaction, repository: RepositoryRow, digest: Digest, *, length: int) -> None:
    """Links the blob of this length to the repository. It must exist, and be locked by this transaction."""
    tx.queue(INSERT_LAYER, tenant_id=repository.tenant_id, repository_id=repository.id, digest=digest, length=length)


_SOURCE_PATH: Final = parameter("source_path", Text())
_SOURCE_IDS: Final = parameter("source_ids", ARRAY(BigInteger()))
_source = repositories.alias("source")
_has_it = select(layers.c.digest).where(
    layers.c.tenant_id == TENANT_ID,
    layers.c.digest == DIGEST,
    or_(_SOURCE_IDS.is_(None), layers.c.repository_id == func.any(_SOURCE_IDS)),
)


def _held(by: Select[Any]) -> Select[Any]:
    return (
        select(*_BLOB)
        .where(blobs.c.tenant_id == TENANT_ID, blobs.c.digest == DIGEST, _READABLE, by.exists())
        .with_for_update(read=True)
    )


# Together in one statement each would take the other's locks too.
LOCK_MOUNTABLE_BLOB: Final = statement(
    "lock_mountable_blob",
    "A blob that this repository has, kept live until the end of the transaction.",
    _held(
        _has_it.where(
            layers.c.repository_id
            == select(_source.c.id)
            .where(_source.c.tenant_id == TENANT_ID, _source.c.path == _SOURCE_PATH, _source.c.deleted_at.is_(None))
            .scalar_subquery()
        )
    ),
    BlobRow,
)

LOCK_BLOB_OF_ANY: Final = statement(
    "lock_blob_of_any",
    "A blob that any repository of the tenant has, kept live until the end of the transaction.",
    _held(
        _has_it.where(
            _source.c.tenant_id == layers.c.tenant_id,
            _source.c.id == layers.c.repository_id,
            _source.c.deleted_at.is_(None),
        )
    ),
    BlobRow,
)


async def lock_mountable_blob(
    tx: Transaction,
    tenant_id: int,
    digest: Digest,
    *,
    source_path: str | None,
    source_ids: Collection[int] | None = None,
) -> BlobRow | None:
    """The blob, if the repository of this path has it; without a path, if any of the tenant's has it.

    Only repositories of these ids count, where there are some.
    """
    ids = None if source_ids is None else list(source_ids)
    if source_path is None:
        return await tx.one(LOCK_BLOB_OF_ANY, tenant_id=tenant_id, digest=digest, source_ids=ids)
    return await tx.one(
        LOCK_MOUNTABLE_BLOB, tenant_id=tenant_id, digest=digest, source_path=source_path, source_ids=ids
    )


LOCK_LAYER: Final = statement(
    "lock_layer",
    "A blob that is about to leave a repository: waits for manifests that refer to it just now.",
    select(layers.c.digest)
    .where(layers.c.tenant_id == TENANT_ID, layers.c.repository_id == REPOSITORY_ID, layers.c.digest == DIGEST)
    .with_for_update(),
    LayerRow,
)


async def lock_layer(tx: Transaction, repository: RepositoryRow, digest: Digest) -> bool:
    """Whether the repository has the blob; if so the link is this transaction's to delete."""
    row = await tx.one(LOCK_LAYER, tenant_id=repository.tenant_id, repository_id=repository.id, digest=digest)
    return row is not None


_unlinked = (
    delete(layers)
    .where(layers.c.tenant_id == TENANT_ID, layers.c.repository_id == REPOSITORY_ID, layers.c.digest == DIGEST)
    .returning(layers.c.tenant_id, layers.c.digest)
    .cte("unlinked")
)

DELETE_LAYER: Final = statement(
    "delete_layer",
    "A repository doesn't see a blob any more; perhaps it was the last.",
    queued(queueing("blob", tenant_id=_unlinked.c.tenant_id, digest=_unlinked.c.digest)),
    Nothing,
)


def delete_layer(tx: Transaction, repository: RepositoryRow, digest: Digest) -> None:
    """Takes the blob out of the repository."""
    tx.queue(DELETE_LAYER, tenant_id=repository.tenant_id, repository_id=repository.id, digest=digest)
