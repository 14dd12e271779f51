"""Looking at everything: what servers of earlier versions left unqueued, and bytes that no row names. Statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import ARRAY, Text, func, literal_column, select, tuple_, union_all
from sqlalchemy.dialects.postgresql import insert

from distsql.sql.garbage_queue import queued, queueing
from distsql.sql.garbage_tables import condemned_bytes, garbage_queue
from distsql.sql.statements import LIMIT, REPOSITORY_ID, TENANT_ID, Nothing, parameter, statement
from distsql.sql.tables import blobs, descriptors, layers, manifests, repositories, tenants, uploads
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType


class SweptRepositoryRow(NamedTuple):
    """A repository, deleted ones included."""

    tenant_id: int
    id: int


class StoreKeyRow(NamedTuple):
    """A key of the byte store that a row names."""

    store_key: str


LIST_SWEPT_REPOSITORIES: Final = statement(
    "list_swept_repositories",
    "A page of all repositories there are.",
    select(repositories.c.tenant_id, repositories.c.id)
    .where(tuple_(repositories.c.tenant_id, repositories.c.id) > tuple_(TENANT_ID, REPOSITORY_ID))
    .order_by(repositories.c.tenant_id, repositories.c.id)
    .limit(LIMIT),
    SweptRepositoryRow,
)

_COLUMNS: Final = ["tenant_id", "id", "kind", "repository_id", "digest", "queued_at"]
_unneeded = (
    queueing("layer", tenant_id=layers.c.tenant_id, repository_id=layers.c.repository_id, digest=layers.c.digest)
    .add_columns(layers.c.needed_at)
    .where(
        layers.c.tenant_id == TENANT_ID,
        layers.c.repository_id == REPOSITORY_ID,
        ~select(descriptors.c.digest)
        .where(
            descriptors.c.tenant_id == layers.c.tenant_id,
            descriptors.c.digest == layers.c.digest,
            descriptors.c.repository_id == layers.c.repository_id,
            descriptors.c.role != literal_column("'subject'", Text()),
        )
        .exists(),
    )
)
_here = (manifests.c.tenant_id == TENANT_ID, manifests.c.repository_id == REPOSITORY_ID)
_manifest = {
    "tenant_id": manifests.c.tenant_id,
    "repository_id": manifests.c.repository_id,
    "digest": manifests.c.digest,
}
_deleted = (
    queueing("deleted_manifest", **_manifest)
    .add_columns(manifests.c.deleted_at)
    .where(*_here, manifests.c.deleted_at.is_not(None))
)
_live = (
    queueing("manifest", **_manifest).add_columns(manifests.c.pushed_at).where(*_here, manifests.c.deleted_at.is_(None))
)
_whole = (
    queueing(
        "repository",
        tenant_id=repositories.c.tenant_id,
        repository_id=repositories.c.id,
        digest=literal_column("null::bytea", DigestType()),
    )
    .add_columns(repositories.c.deleted_at)
    .where(
        repositories.c.tenant_id == TENANT_ID,
        repositories.c.id == REPOSITORY_ID,
        repositories.c.deleted_at.is_not(None),
    )
)

SWEEP_REPOSITORY: Final = statement(
    "sweep_repository",
    "All of a repository that may be garbage, queued from when it may have become so.",
    insert(garbage_queue).from_select(_COLUMNS, union_all(_unneeded, _deleted, _live, _whole)),
    Nothing,
)

_unlinked = (
    select(blobs.c.tenant_id, blobs.c.digest)
    .where(
        blobs.c.state == literal_column("'live'", Text()),
        ~select(layers.c.digest)
        .where(layers.c.tenant_id == blobs.c.tenant_id, layers.c.digest == blobs.c.digest)
        .exists(),
    )
    .subquery("unlinked")
)

SWEEP_BLOBS: Final = statement(
    "sweep_blobs",
    "Blobs that no repository has.",
    queued(queueing("blob", tenant_id=_unlinked.c.tenant_id, digest=_unlinked.c.digest)),
    Nothing,
)

SWEEP_TENANTS: Final = statement(
    "sweep_tenants",
    "Tenants that were deleted.",
    queued(
        queueing("tenant", tenant_id=tenants.c.id, digest=literal_column("null::bytea", DigestType())).where(
            tenants.c.deleted_at.is_not(None)
        )
    ),
    Nothing,
)


async def list_swept_repositories(tx: Transaction, *, after: tuple[int, int], limit: int) -> list[SweptRepositoryRow]:
    """Repositories behind ``after`` (tenant's id, repository's id)."""
    return await tx.all(LIST_SWEPT_REPOSITORIES, tenant_id=after[0], repository_id=after[1], limit=limit)


async def sweep_repositories(tx: Transaction, rows: Sequence[SweptRepositoryRow]) -> None:
    """Queues whatever may be garbage in these repositories; what is queued already is then queued twice."""
    for row in rows:
        tx.queue(SWEEP_REPOSITORY, tenant_id=row.tenant_id, repository_id=row.id)


async def sweep_the_rest(tx: Transaction) -> None:
    """Queues blobs without a repository, and deleted tenants."""
    for each in (SWEEP_BLOBS, SWEEP_TENANTS):
        tx.queue(each)


_STORE_KEYS: Final = parameter("store_keys", ARRAY(Text()))

FIND_STORE_KEYS: Final = statement(
    "find_store_keys",
    "Which of these keys of the byte store a row names: a blob, an upload, or bytes that go by themselves.",
    union_all(
        select(blobs.c.store_key).where(blobs.c.store_key == func.any(_STORE_KEYS)),
        select(uploads.c.store_key).where(uploads.c.store_key == func.any(_STORE_KEYS)),
        select(condemned_bytes.c.store_key).where(condemned_bytes.c.store_key == func.any(_STORE_KEYS)),
    ),
    StoreKeyRow,
)


async def find_store_keys(tx: Transaction, keys: Sequence[str]) -> set[str]:
    """Those of the keys that the catalogue knows, in one snapshot."""
    return {row.store_key for row in await tx.all(FIND_STORE_KEYS, store_keys=list(keys))}
