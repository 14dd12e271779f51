"""What a run of garbage collection would remove, in one read that locks nothing. Statement."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Interval, bindparam, column, text

from distsql.sql.database import Transaction
from distsql.sql.statements import statement


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


# As the steps of a run judge (`distsql.sql.garbage`, `garbage_manifests`, `deletions`), all as of now: what only goes
# once something else has been gone for a while isn't counted.
_PREVIEW: Final = """
with due as materialized (
    select distinct kind, tenant_id, repository_id, digest from garbage_queue
    where (kind in ('layer', 'manifest', 'subject', 'tenant') and queued_at <= now() - cast(:grace as interval))
    or (kind in ('deleted_manifest', 'repository') and queued_at <= now() - cast(:restore_period as interval))
    or (kind = 'blob' and queued_at <= now())
), due_tenants as materialized (
    select d.tenant_id from due d join tenants t on t.id = d.tenant_id
    where d.kind = 'tenant' and t.deleted_at <= now() - cast(:grace as interval)
), gone_repositories as materialized (
    select r.tenant_id, r.id as repository_id from due d
    join repositories r on r.tenant_id = d.tenant_id and r.id = d.repository_id
    where d.kind = 'repository' and r.deleted_at <= now() - cast(:restore_period as interval)
    union -- a run queues the others of a deleted tenant, and their time begins then
    select r.tenant_id, r.id from due_tenants g join repositories r on r.tenant_id = g.tenant_id
    where r.deleted_at is null and cast(:restore_period as interval) <= interval '0'
), due_content as materialized (
    select kind, tenant_id, repository_id, digest from due
    where (tenant_id, repository_id) not in (select tenant_id, repository_id from gone_repositories)
), purged as materialized (
    select m.tenant_id, m.repository_id, m.digest from due_content d
    join manifests m on (m.tenant_id, m.repository_id, m.digest) = (d.tenant_id, d.repository_id, d.digest)
    where d.kind = 'deleted_manifest' and m.deleted_at <= now() - cast(:restore_period as interval)
), unheld as materialized (
    select m.tenant_id, m.repository_id, m.digest, m.pushed_at, m.promised_at, d.kind, d.digest as queued_digest
    from due_content d
    join manifests m on m.tenant_id = d.tenant_id and m.repository_id = d.repository_id
        and ((d.kind = 'manifest' and m.digest = d.digest) or (d.kind = 'subject' and m.digest in (
            select s.manifest_digest from descriptors s where s.tenant_id = d.tenant_id and s.digest = d.digest
            and s.repository_id = d.repository_id and s.role = 'subject'
        )))
    where d.kind in ('manifest', 'subject') and m.deleted_at is null
    and not exists (select from tags g where (g.tenant_id, g.repository_id, g.live_digest)
        = (m.tenant_id, m.repository_id, m.digest))
    and not exists (select from descriptors p where p.tenant_id = m.tenant_id and p.digest = m.digest
        and p.repository_id = m.repository_id and p.role <> 'subject')
    and not exists (select from manifests s where (s.tenant_id, s.repository_id, s.digest)
        = (m.tenant_id, m.repository_id, m.subject_digest) and s.deleted_at is null)
), unpromised as materialized (
    select distinct m.tenant_id, m.repository_id, m.digest from unheld m
    where (m.kind = 'subject' and not exists (
        select from unheld o where (o.tenant_id, o.repository_id, o.queued_digest)
            = (m.tenant_id, m.repository_id, m.queued_digest)
        and o.kind = 'subject' and o.promised_at > now() - cast(:grace as interval)
    )) or (m.kind = 'manifest'
        and greatest(m.pushed_at, m.promised_at) <= now() - cast(:grace as interval)
        and exists (select from repositories r join tenants t on t.id = r.tenant_id
            where r.tenant_id = m.tenant_id and r.id = m.repository_id and r.deleted_at is null
            and coalesce(r.untagged, t.untagged) = 'collect')
        and not exists (select from tags g where (g.tenant_id, g.repository_id, g.digest)
            = (m.tenant_id, m.repository_id, m.digest) and g.valid_to > now() - cast(:restore_period as interval))
    )
), unneeded as materialized (
    select l.tenant_id, l.repository_id, l.digest from due_content d
    join layers l on (l.tenant_id, l.repository_id, l.digest) = (d.tenant_id, d.repository_id, d.digest)
    where d.kind = 'layer' and l.needed_at <= now() - cast(:grace as interval)
    and not exists (select from descriptors n where n.tenant_id = l.tenant_id and n.digest = l.digest
        and n.repository_id = l.repository_id and n.role <> 'subject')
), left_behind as (
    select tenant_id, digest from due where kind = 'blob'
    union select tenant_id, digest from unneeded
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
    )
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
    (select count(*) from unpromised) as manifests,
    (select count(*) from purged) as purged, (select count(*) from unneeded) as layers,
    (select count(*) from freed) as blobs,
    cast((select coalesce(sum(length), 0) from condemned_bytes
        where condemned_at <= now() - cast(:recovery_window as interval))
    + case when cast(:recovery_window as interval) > interval '0' then 0
        else (select coalesce(sum(length), 0) from freed) + (select coalesce(sum(offset_bytes), 0) from ended)
        end as bigint) as freed_bytes
"""

PREVIEW_COLLECTION: Final = statement(
    "preview_collection",
    "What a run of garbage collection would remove, from what is queued.",
    text(_PREVIEW)
    .bindparams(*(bindparam(name, type_=Interval()) for name in ("grace", "restore_period", "recovery_window")))
    .columns(*(column(name, BigInteger()) for name in PreviewRow._fields)),
    PreviewRow,
)


async def preview_collection(
    tx: Transaction, *, grace: timedelta, restore_period: timedelta, recovery_window: timedelta
) -> PreviewRow:
    """How much would go now."""
    row = await tx.one(PREVIEW_COLLECTION, grace=grace, restore_period=restore_period, recovery_window=recovery_window)
    if row is None:
        raise AssertionError("counts give a row")
    return row
