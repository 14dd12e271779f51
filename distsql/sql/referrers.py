"""Referrers: manifests that say something about a subject, which may be absent."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    LargeBinary,
    Select,
    Text,
    case,
    cast,
    func,
    literal_column,
    null,
    or_,
    select,
    union,
)
from sqlalchemy.dialects.postgresql import JSONB

from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.sql.statements import DIGEST, LIMIT, name_parameters, named_repository, parameter, statement
from distsql.sql.tables import descriptors, manifest_annotations, manifests, tags
from distsql.sql.transactions import Transaction


class ReferrerRow(NamedTuple):
    """A manifest with this subject, as its descriptor tells it. ``annotations`` is None for none, or far too many.

    What is ``beyond`` those that are small enough together is told without annotations: it is asked for again.
    """

    digest: Digest
    media_type: str
    length: int
    artifact_type: str | None
    annotations: dict[str, Any] | None
    beyond: bool


_joined, _repository = named_repository()
_here = select(_repository.c.tenant_id, _repository.c.id).select_from(_joined).cte("here")
# Each found once, before all else, and so as good as a parameter: with a row that is joined, PostgreSQL takes another
# order of steps, in which a page of ten thousand is read to the end.
_TENANT_ID: Final = select(_here.c.tenant_id).scalar_subquery()
_REPOSITORY_ID: Final = select(_here.c.id).scalar_subquery()
_TYPE: Final = parameter("artifact_type", Text())
_AFTER: Final = parameter("after", LargeBinary())
# In bytes. No answer to a client has room for more, so they need not even be read.
_MOST: Final = literal_column(str(3 * 1024**2), BigInteger())
# The tag schema cuts an algorithm's hex off here, for a tag has 128 characters ("Referrers Tag Schema").
_MAX_ENCODED: Final = 64


def _page(digest: ColumnElement[Digest], source: FromClause, *conditions: ColumnElement[bool]) -> Select[Any]:
    """A page of those manifests that the repository has, of the digests in a column of ``descriptors``."""
    held = source.join(
        manifests,
        (manifests.c.tenant_id == descriptors.c.tenant_id)
        & (manifests.c.repository_id == descriptors.c.repository_id)
        & (manifests.c.digest == digest),
    )
    return (
        select(digest.label("digest"), manifests.c.media_type, manifests.c.length, manifests.c.artifact_type)
        .select_from(held)
        .where(
            descriptors.c.tenant_id == _TENANT_ID,
            descriptors.c.repository_id == _REPOSITORY_ID,
            *conditions,
            manifests.c.deleted_at.is_(None),
            digest > _AFTER,
            # The same once more, or a merge of the two indexes would read all manifests up to there.
            manifests.c.digest > _AFTER,
            or_(_TYPE.is_(None), manifests.c.artifact_type == _TYPE),
        )
        .order_by(digest)
        .limit(LIMIT)
    )


_with_subject = _page(
    descriptors.c.manifest_digest,
    descriptors,
    descriptors.c.digest == DIGEST,
    descriptors.c.role == literal_column("'subject'", Text()),
)
# Clients of registries without this API keep an index of the referrers under a tag ("Referrers Tag Schema").
_in_tagged_index = _page(
    descriptors.c.digest,
    tags.join(
        descriptors,
        (descriptors.c.tenant_id == tags.c.tenant_id)
        & (descriptors.c.repository_id == tags.c.repository_id)
        & (descriptors.c.manifest_digest == tags.c.digest),
    ),
    tags.c.tenant_id == _TENANT_ID,
    tags.c.repository_id == _REPOSITORY_ID,
    tags.c.name == parameter("fallback_tag", Text(collation="C")),
    tags.c.valid_to.is_(None),
    descriptors.c.role == literal_column("'manifest'", Text()),
)
_found = union(_with_subject, _in_tagged_index).order_by("digest").limit(LIMIT).subquery("found")
# Manifests are at least as long as their annotations, so that these need not be read to know how much a page takes.
_length = cast(_found.c.length, Integer)  # sums of numbers as large as a column of theirs are slow
_length_before = func.sum(_length).over(order_by=_found.c.digest, rows=(None, 0)) - _length
_shown = select(*_found.c, (_length_before > _MOST).label("beyond")).subquery("shown")
_annotation = manifest_annotations.c
_annotations = (
    select(func.jsonb_object_agg(_annotation.key, _annotation.value, type_=JSONB()))
    .where(
        _annotation.tenant_id == _TENANT_ID,
        _annotation.repository_id == _REPOSITORY_ID,
        _annotation.manifest_digest == _shown.c.digest,
    )
    .having(func.sum(func.octet_length(_annotation.value)) < _MOST)
    .scalar_subquery()
)

LIST_REFERRERS: Final = statement(
    "list_referrers",
    "A page of the manifests with a subject, pushed before or after it, and of those in the index that clients keep "
    "under the subject's fallback tag; by digest.",
    select(
        *(_shown.c[name] for name in ReferrerRow._fields[:4]),
        case((_shown.c.beyond, null()), else_=_annotations).label("annotations"),
        _shown.c.beyond,
    ).order_by(_shown.c.digest),
    ReferrerRow,
)


async def list_referrers(
    tx: Transaction,
    name: RepositoryName,
    digest: Digest,
    *,
    artifact_type: str | None,
    after: Digest | None,
    limit: int,
) -> list[ReferrerRow]:
    """Manifests whose subject is the digest, behind ``after``; with an ``artifact_type`` only those of it.

    Of a repository that isn't there: none.
    """
    return await tx.all(
        LIST_REFERRERS,
        **name_parameters(name),
        digest=digest,
        fallback_tag=f"{digest.algorithm}-{digest.encoded[:_MAX_ENCODED]}",
        artifact_type=artifact_type,
        after=after.packed if after else b"",
        limit=limit,
    )
