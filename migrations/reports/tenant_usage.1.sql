create view report.tenant_usage with (security_invoker = true) as
select t.name as tenant, used.repositories, used.manifests, used.tags, held.logical_bytes, used.stored_bytes,
    t.quota_bytes
from tenants t
cross join lateral (
    select coalesce(sum(u.repositories), 0)::bigint as repositories, coalesce(sum(u.manifests), 0)::bigint as manifests,
        coalesce(sum(u.tags), 0)::bigint as tags, coalesce(sum(u.stored_bytes), 0)::bigint as stored_bytes
    from tenant_usage u where u.tenant_id = t.id
) used
cross join lateral (
    select coalesce(sum(b.length), 0)::bigint as logical_bytes
    from repositories r
    join layers l on l.tenant_id = r.tenant_id and l.repository_id = r.id
    join blobs b on b.tenant_id = l.tenant_id and b.digest = l.digest and b.state = 'live'
    where r.tenant_id = t.id and r.deleted_at is null
) held
where t.id <> 0 and t.name is not null;
comment on view report.tenant_usage is 'Who uses how much.

select tenant, stored_bytes, quota_bytes from report.tenant_usage order by stored_bytes desc;';
comment on column report.tenant_usage.tenant is 'Name of the tenant.';
comment on column report.tenant_usage.repositories is 'Repositories that it has.';
comment on column report.tenant_usage.manifests is 'Manifests in them.';
comment on column report.tenant_usage.tags is 'Live tags in them.';
comment on column report.tenant_usage.logical_bytes is 'Bytes of blobs, each counted once in each repository.';
comment on column report.tenant_usage.stored_bytes is 'Bytes of blobs, each counted once.';
comment on column report.tenant_usage.quota_bytes is 'Most bytes that it may store; null: no limit.';
