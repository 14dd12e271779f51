"""Referrers: manifests that say something about a subject, which may be absent."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import LargeBinary, Text, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import JSONB

from distsql.oci.digest import Digest
from distsql.sql.database import Transaction
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import DIGEST, LIMIT, REPOSITORY_ID, TENANT_ID, parameter, statement
from distsql.sql.tables import descriptors, manifest_annotations, manifests


class ReferrerRow(NamedTuple):
    """A manifest with this subject, as its descriptor tells it."""

    digest: Digest
    media_type: str
    length: int
    artifact_type: str | None
    annotations: dict[str, Any] | None


_TYPE: Final = parameter("artifact_type", Text())

_annotations = (
    select(func.jsonb_object_agg(manifest_annotations.c.key, manifest_annotations.c.value, type_=JSONB()))
    .where(
        manifest_annotations.c.tenant_id == manifests.c.tenant_id,
        manifest_annotations.c.repository_id == manifests.c.repository_id,
        manifest_annotations.c.manifest_digest == manifests.c.digest,
    )
    .scalar_subquery()
)

LIST_REFERRERS: Final = statement(
    "list_referrers",
    "A page of the manifests with a subject, by digest; found by the subject's digest, so in any order of pushing.",
    select(
        manifests.c.digest,
        manifests.c.media_type,
        manifests.c.length,
        manifests.c.artifact_type,
        _annotations.label("annotations"),
    )
    .select_from(
        descriptors.join(
            manifests,
            (manifests.c.tenant_id == descriptors.c.tenant_id)
            & (manifests.c.repository_id == descriptors.c.repository_id)
            & (manifests.c.digest == descriptors.c.manifest_digest),
        )
    )
    .where(
        descriptors.c.tenant_id == TENANT_ID,
        descriptors.c.digest == DIGEST,
        descriptors.c.repository_id == REPOSITORY_ID,
        descriptors.c.manifest_digest > parameter("after", LargeBinary()),
        descriptors.c.role == literal_column("'subject'", Text()),
        or_(_TYPE.is_(None), manifests.c.artifact_type == _TYPE),
    )
    .order_by(descriptors.c.manifest_digest)
    .limit(LIMIT),
    ReferrerRow,
)


async def list_referrers(
    tx: Transaction,
    repository: RepositoryRow,
    digest: Digest,
    *,
    artifact_type: str | None,
    after: Digest | None,
    limit: int,
) -> list[ReferrerRow]:
    """Manifests whose subject is the digest, behind ``after``; with an ``artifact_type`` only those of it."""
    return await tx.all(
        LIST_REFERRERS,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        digest=digest,
        artifact_type=artifact_type,
        after=after.packed if after else b"",
        limit=limit,
    )
