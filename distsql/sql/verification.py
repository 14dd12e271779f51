"""What `distsql verify` reads: pages over everything that must have bytes, or something to point to. Statements."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import BigInteger, LargeBinary, Text, func, literal_column, select, tuple_

from distsql.oci.digest import Digest
from distsql.sql.statements import DIGEST, LIMIT, REPOSITORY_ID, TENANT_ID, parameter, statement
from distsql.sql.tables import blobs, descriptors, layers, manifests, repositories, tenants
from distsql.sql.transactions import Transaction


class VerifiedBlobRow(NamedTuple):
    """A live blob, and where its bytes should be."""

    tenant_id: int
    tenant: str
    digest: Digest
    length: int
    store_key: str


class VerifiedManifestRow(NamedTuple):
    """A manifest with its payload."""

    tenant_id: int
    repository_id: int
    repository: str
    digest: Digest
    media_type: str
    payload: bytes


class MissingReferenceRow(NamedTuple):
    """A reference of a manifest to what its repository doesn't have."""

    manifest: Digest
    digest: Digest
    role: str


class ContentRow(NamedTuple):
    """How much there is."""

    blobs: int
    manifests: int
    bytes: int


_ZERO: Final = literal_column("0", BigInteger())
_LIVE: Final = literal_column("'live'", Text())
_AFTER: Final = parameter("after", LargeBinary())

_live_blobs = (
    select(func.count().label("blobs"), func.coalesce(func.sum(blobs.c.length).cast(BigInteger), _ZERO).label("bytes"))
    .where(blobs.c.state == _LIVE)
    .subquery("blob")
)
_live_manifests = select(func.count()).select_from(manifests).where(manifests.c.deleted_at.is_(None))

COUNT_CONTENT: Final = statement(
    "count_content",
    "How much there is to verify.",
    select(
        _live_blobs.c.blobs,
        _live_manifests.scalar_subquery(),
        _live_blobs.c.bytes,
    ),
    ContentRow,
)


async def count_content(tx: Transaction) -> ContentRow:
    """The number of live blobs and manifests, and the blobs' bytes."""
    row = await tx.one(COUNT_CONTENT)
    if row is None:
        raise AssertionError("counts give a row")
    return row


LIST_LIVE_BLOBS: Final = statement(
    "list_live_blobs",
    "A page of all live blobs, by tenant and digest.",
    select(blobs.c.tenant_id, tenants.c.name, blobs.c.digest, blobs.c.length, blobs.c.store_key)
    .select_from(blobs.join(tenants, tenants.c.id == blobs.c.tenant_id))
    .where(
        blobs.c.state == _LIVE,
        tuple_(blobs.c.tenant_id, blobs.c.digest) > tuple_(TENANT_ID, _AFTER),
    )
    .order_by(blobs.c.tenant_id, blobs.c.digest)
    .limit(LIMIT),
    VerifiedBlobRow,
)


async def list_live_blobs(tx: Transaction, *, after: tuple[int, bytes], limit: int) -> list[VerifiedBlobRow]:
    """Live blobs behind ``after`` (tenant's id, packed digest)."""
    return await tx.all(LIST_LIVE_BLOBS, tenant_id=after[0], after=after[1], limit=limit)


FIND_LIVE_BLOB: Final = statement(
    "find_live_blob",
    "A live blob as it is now: it may have changed since its page was read.",
    select(blobs.c.tenant_id, tenants.c.name, blobs.c.digest, blobs.c.length, blobs.c.store_key)
    .select_from(blobs.join(tenants, tenants.c.id == blobs.c.tenant_id))
    .where(blobs.c.state == _LIVE, blobs.c.tenant_id == TENANT_ID, blobs.c.digest == DIGEST),
    VerifiedBlobRow,
)


async def find_live_blob(tx: Transaction, tenant_id: int, digest: Digest) -> VerifiedBlobRow | None:
    """The blob, if it is live."""
    return await tx.one(FIND_LIVE_BLOB, tenant_id=tenant_id, digest=digest)


_key = (manifests.c.tenant_id, manifests.c.repository_id, manifests.c.digest)

LIST_ALL_MANIFESTS: Final = statement(
    "list_all_manifests",
    "A page of all manifests, by tenant, repository and digest.",
    select(
        manifests.c.tenant_id,
        manifests.c.repository_id,
        (tenants.c.name + literal_column("'/'", Text()) + repositories.c.path).label("repository"),
        manifests.c.digest,
        manifests.c.media_type,
        manifests.c.payload,
    )
    .select_from(
        manifests.join(
            repositories,
            (repositories.c.tenant_id == manifests.c.tenant_id) & (repositories.c.id == manifests.c.repository_id),
        ).join(tenants, tenants.c.id == manifests.c.tenant_id)
    )
    .where(
        tuple_(*_key) > tuple_(TENANT_ID, REPOSITORY_ID, _AFTER),
        manifests.c.deleted_at.is_(None),
        repositories.c.deleted_at.is_(None),
    )
    .order_by(*_key)
    .limit(LIMIT),
    VerifiedManifestRow,
)


async def list_all_manifests(
    tx: Transaction, *, after: tuple[int, int, bytes], limit: int
) -> list[VerifiedManifestRow]:
    """Manifests behind ``after`` (tenant's id, repository's id, packed digest)."""
    return await tx.all(LIST_ALL_MANIFESTS, tenant_id=after[0], repository_id=after[1], after=after[2], limit=limit)


_children = manifests.alias("child")
_SPARSE: Final = ("manifest", "layer")

LIST_MISSING_REFERENCES: Final = statement(
    "list_missing_references",
    "What a repository's manifests need and it doesn't have; children and layers only where it isn't sparse.",
    select(descriptors.c.manifest_digest, descriptors.c.digest, descriptors.c.role)
    .select_from(
        descriptors.join(
            repositories,
            (repositories.c.tenant_id == descriptors.c.tenant_id) & (repositories.c.id == descriptors.c.repository_id),
        )
    )
    .where(
        descriptors.c.tenant_id == TENANT_ID,
        descriptors.c.repository_id == REPOSITORY_ID,
        descriptors.c.manifest_digest == DIGEST,
        descriptors.c.required,
        ~(repositories.c.sparse & descriptors.c.role.in_([literal_column(f"'{role}'", Text()) for role in _SPARSE])),
        ~select(layers.c.digest)
        .where(
            layers.c.tenant_id == TENANT_ID,
            layers.c.repository_id == REPOSITORY_ID,
            layers.c.digest == descriptors.c.digest,
        )
        .exists(),
        ~select(_children.c.digest)
        .where(
            _children.c.tenant_id == TENANT_ID,
            _children.c.repository_id == REPOSITORY_ID,
            _children.c.digest == descriptors.c.digest,
            _children.c.deleted_at.is_(None),
            descriptors.c.role == literal_column("'manifest'", Text()),
        )
        .exists(),
    )
    .order_by(descriptors.c.position)
    .limit(literal_column("1000", BigInteger())),
    MissingReferenceRow,
)


async def list_missing_references(
    tx: Transaction, tenant_id: int, repository_id: int, digest: Digest
) -> list[MissingReferenceRow]:
    """References of the manifest that lead nowhere; empty also when the manifest is gone."""
    return await tx.all(LIST_MISSING_REFERENCES, tenant_id=tenant_id, repository_id=repository_id, digest=digest)
