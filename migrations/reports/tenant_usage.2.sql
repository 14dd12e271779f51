-- What is linked is live, and says itself how long it is; where a version before wrote it, the blob does.
create or replace view report.tenant_usage with (security_invoker = true) as
select t.name as tenant, used.repositories, used.manifests, used.tags, held.logical_bytes, used.stored_bytes,
    t.quota_bytes
from tenants t
cross join lateral (
    select coalesce(sum(u.repositories), 0)::bigint as repositories, coalesce(sum(u.manifests), 0)::bigint as manifests,
        coalesce(sum(u.tags), 0)::bigint as tags, coalesce(sum(u.stored_bytes), 0)::bigint as stored_bytes
    from tenant_usage u where u.tenant_id = t.id
) used
cross join lateral (
    select coalesce(sum(coalesce(l.length, (
        select b.length from blobs b where b.tenant_id = l.tenant_id and b.digest = l.digest
    ))), 0)::bigint as logical_bytes
    from layers l
    where l.tenant_id = t.id
    and not exists (
        select from repositories r where r.tenant_id = l.tenant_id and r.id = l.repository_id and r.deleted_at is not null
    )
) held
where t.id <> 0 and t.name is not null;
