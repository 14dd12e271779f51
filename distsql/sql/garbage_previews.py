"""What a run of garbage collection would remove of everything, in one read. Statement."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import ARRAY, BigInteger, Interval, bindparam, column, text

from distsql.sql.garbage_forecasts import removed_arrays, whole
from distsql.sql.manifest_deletions import ManifestKeyRow
from distsql.sql.statements import statement
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType


class PreviewRow(NamedTuple):
    """How many of each would go, and how many bytes."""

    uploads: int
    tenants: int
    repositories: int
    manifests: int
    purged: int
    layers: int
    blobs: int
    freed_bytes: int


# As the steps of a run judge (`distsql.sql.garbage`, `deletions`) after it has removed manifests. What
# these referred to is looked at in the same run only where there is no grace, and forgotten where nothing is restored.
_PREVIEW: Final = """
with <gone>, <removed>, due_content as materialized (
    select kind, tenant_id, repository_id, digest from due
    where (tenant_id, repository_id) not in (select tenant_id, repository_id from gone_repositories)
), released as materialized (
    select distinct d.tenant_id, d.repository_id, d.digest from removed r
    join descriptors d on (d.tenant_id, d.repository_id, d.manifest_digest) = (r.tenant_id, r.repository_id, r.digest)
    where d.role <> 'subject'
), purged as materialized (
    select m.tenant_id, m.repository_id, m.digest from due_content d
    join manifests m on (m.tenant_id, m.repository_id, m.digest) = (d.tenant_id, d.repository_id, d.digest)
    where d.kind = 'deleted_manifest' and m.deleted_at <= now() - cast(:restore_period as interval)
    union
    select r.tenant_id, r.repository_id, r.digest from removed r where cast(:restore_period as interval) <= interval '0'
), unneeded as materialized (
    select l.tenant_id, l.repository_id, l.digest from (
        select d.tenant_id, d.repository_id, d.digest from due_content d where d.kind = 'layer'
        union
        select r.tenant_id, r.repository_id, r.digest from released r where cast(:grace as interval) <= interval '0'
    ) d
    join layers l on (l.tenant_id, l.repository_id, l.digest) = (d.tenant_id, d.repository_id, d.digest)
    where l.needed_at <= now() - cast(:grace as interval)
    and not exists (select from descriptors n where n.tenant_id = l.tenant_id and n.digest = l.digest
        and n.repository_id = l.repository_id and n.role <> 'subject'
        and (cast(:grace as interval) > interval '0'
            or (n.tenant_id, n.repository_id, n.manifest_digest) not in (select * from removed)))
), left_behind as (
    select tenant_id, digest from due where kind = 'blob'
    union select tenant_id, digest from unneeded
    union select tenant_id, digest from released where cast(:restore_period as interval) <= interval '0'
    union select l.tenant_id, l.digest from layers l
        where (l.tenant_id, l.repository_id) in (select tenant_id, repository_id from gone_repositories)
    union select k.tenant_id, k.digest from kept_references k
        where (k.tenant_id, k.repository_id) in (select tenant_id, repository_id from gone_repositories)
        or (k.tenant_id, k.repository_id, k.manifest_digest) in (select tenant_id, repository_id, digest from purged)
), freed as materialized (
    select b.tenant_id, b.digest, b.length from left_behind f
    join blobs b on (b.tenant_id, b.digest) = (f.tenant_id, f.digest)
    where b.state = 'live'
    and not exists (
        select from layers l where l.tenant_id = b.tenant_id and l.digest = b.digest
        and (l.tenant_id, l.repository_id) not in (select tenant_id, repository_id from gone_repositories)
        and (l.tenant_id, l.repository_id, l.digest) not in (select tenant_id, repository_id, digest from unneeded)
    ) and not exists (
        select from kept_references k where k.tenant_id = b.tenant_id and k.digest = b.digest
        and (k.tenant_id, k.repository_id) not in (select tenant_id, repository_id from gone_repositories)
        and (k.tenant_id, k.repository_id, k.manifest_digest)
            not in (select tenant_id, repository_id, digest from purged)
    ) and (cast(:restore_period as interval) <= interval '0'
        or (b.tenant_id, b.digest) not in (select tenant_id, digest from released))
), gone_tenants as (
    select t.tenant_id from due_tenants t
    where not exists (select from repositories r where r.tenant_id = t.tenant_id
        and (r.tenant_id, r.id) not in (select tenant_id, repository_id from gone_repositories))
    and not exists (select from blobs b where b.tenant_id = t.tenant_id
        and not (cast(:recovery_window as interval) <= interval '0'
            and (b.tenant_id, b.digest) in (select tenant_id, digest from freed))
        and not (b.state <> 'live' and exists (
            select from condemned_bytes c where (c.tenant_id, c.store_key) = (b.tenant_id, b.store_key)
            and c.condemned_at <= now() - cast(:recovery_window as interval))))
), ended as (
    select u.offset_bytes from uploads u where u.expires_at <= now()
    or (u.tenant_id, u.repository_id) in (select tenant_id, repository_id from gone_repositories)
)
select (select count(*) from ended) as uploads, (select count(*) from gone_tenants) as tenants,
    (select count(*) from gone_repositories) as repositories,
    (select count(*) from removed) as manifests,
    (select count(*) from purged) as purged, (select count(*) from unneeded) as layers,
    (select count(*) from freed) as blobs,
    cast((select coalesce(sum(length), 0) from condemned_bytes
        where condemned_at <= now() - cast(:recovery_window as interval))
    + case when cast(:recovery_window as interval) > interval '0' then 0
        else (select coalesce(sum(length), 0) from freed) + (select coalesce(sum(offset_bytes), 0) from ended)
        end as bigint) as freed_bytes
"""

_PERIODS: Final = ("grace", "restore_period", "recovery_window")

PREVIEW_COLLECTION: Final = statement(
    "preview_collection",
    "What a run of garbage collection would remove, from what is queued, with manifests that it would remove before.",
    text(whole(_PREVIEW))
    .bindparams(*(bindparam(name, type_=Interval()) for name in _PERIODS))
    .bindparams(
        bindparam("removed_tenant_ids", type_=ARRAY(BigInteger())),
        bindparam("removed_repository_ids", type_=ARRAY(BigInteger())),
        bindparam("removed_digests", type_=ARRAY(DigestType())),
    )
    .columns(*(column(name, BigInteger()) for name in PreviewRow._fields)),
    PreviewRow,
)


async def preview_collection(
    tx: Transaction,
    removed: Collection[ManifestKeyRow],
    *,
    grace: timedelta,
    restore_period: timedelta,
    recovery_window: timedelta,
) -> PreviewRow:
    """How much would go now, with these manifests (`garbage_forecasts`)."""
    row = await tx.one(
        PREVIEW_COLLECTION,
        grace=grace,
        restore_period=restore_period,
        recovery_window=recovery_window,
        **removed_arrays(removed),
    )
    if row is None:
        raise AssertionError("counts give a row")
    return row
