"""What may be written to a repository just now, in one read before the transaction: statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import ARRAY, BigInteger, Integer, Text, false, func, literal_column, or_, select, true
from sqlalchemy.dialects.postgresql import array

from distsql.oci.names import RepositoryName
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import (
    ONE,
    ONLY_ID,
    PATH,
    REPOSITORY_ID,
    TENANT,
    TENANT_ID,
    name_parameters,
    parameter,
    statement,
)
from distsql.sql.tables import repositories, tags, tenants
from distsql.sql.tenant_tables import tenant_usage
from distsql.sql.transactions import Transaction


class AdmissionRow(NamedTuple):
    """A tenant's switches and limits together with those of one of its repositories, which may not be there.

    ``quotas`` and ``use`` are of bytes, repositories, manifests and tags. A quota that is None is no limit; without any
    the use isn't added up.
    """

    tenant_id: int
    repository_id: int | None
    suspended: bool
    tenant_read_only: bool
    read_only: bool
    deletable: bool
    sparse: bool
    creators: str
    immutable_tags: list[str]
    manifest_limit: int | None
    collecting: bool
    quotas: list[int | None]
    use: list[int]
    store: str | None


class FixedTagRow(NamedTuple):
    """A live tag that is immutable."""

    name: str


_MEASURES: Final = (
    tenant_usage.c.stored_bytes,
    tenant_usage.c.repositories,
    tenant_usage.c.manifests,
    tenant_usage.c.tags,
)
_tenant = select(tenants).where(tenants.c.name == TENANT).limit(ONE).subquery("tenant")
_repository = (
    select(repositories)
    .where(
        repositories.c.tenant_id == _tenant.c.id,
        repositories.c.path == PATH,
        repositories.c.deleted_at.is_(None),
        or_(ONLY_ID.is_(None), repositories.c.id == ONLY_ID),
    )
    .limit(ONE)
    .lateral("repository")
)
_quotas = (_tenant.c.quota_bytes, _tenant.c.quota_repositories, _tenant.c.quota_manifests, _tenant.c.quota_tags)
# Added up only where there is a quota.
_use = (
    select(
        array(
            [
                func.coalesce(func.sum(measure).cast(BigInteger), literal_column("0", BigInteger()))
                for measure in _MEASURES
            ]
        ).label("use")
    )
    .where(tenant_usage.c.tenant_id == _tenant.c.id, func.num_nonnulls(*_quotas) > literal_column("0", Integer()))
    .lateral("usage")
)

FIND_ADMISSION: Final = statement(
    "find_admission",
    "What may be written to a repository, whether it is there or not yet.",
    select(
        _tenant.c.id,
        _repository.c.id,
        _tenant.c.suspended_at.is_not(None),
        _tenant.c.read_only,
        func.coalesce(_repository.c.read_only, false()),
        _tenant.c.deletable & func.coalesce(_repository.c.deletable, true()),
        _tenant.c.sparse | func.coalesce(_repository.c.sparse, false()),
        _tenant.c.creators,
        func.array_cat(_tenant.c.immutable_tags, _repository.c.immutable_tags),
        _tenant.c.manifest_limit_bytes,
        func.coalesce(_repository.c.untagged, _tenant.c.untagged) == literal_column("'collect'", Text()),
        array(_quotas),
        _use.c.use,
        _tenant.c.store,
    ).select_from(_tenant.outerjoin(_repository, true()).outerjoin(_use, true())),
    AdmissionRow,
)


async def find_admission(tx: Transaction, name: RepositoryName) -> AdmissionRow | None:
    """The switches and limits for the repository of this name; None when there is no such tenant."""
    return await tx.one(FIND_ADMISSION, **name_parameters(name))


FIND_TAG_LIKE: Final = statement(
    "find_tag_like",
    "A live tag that one of the patterns protects. For whole repositories.",
    select(tags.c.name)
    .where(
        tags.c.tenant_id == TENANT_ID,
        tags.c.repository_id == REPOSITORY_ID,
        tags.c.valid_to.is_(None),
        tags.c.name.like(func.any(parameter("patterns", ARRAY(Text())))),
    )
    .limit(ONE),
    FixedTagRow,
)


async def find_tag_like(tx: Transaction, repository: RepositoryRow, patterns: Sequence[str]) -> str | None:
    """The name of a live tag that is like one of the patterns (of SQL), or None."""
    row = await tx.one(
        FIND_TAG_LIKE, tenant_id=repository.tenant_id, repository_id=repository.id, patterns=list(patterns)
    )
    return row.name if row else None
