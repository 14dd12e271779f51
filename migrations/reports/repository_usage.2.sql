-- What is linked is live, and says itself how long it is; where a version before wrote it, the blob does.
create or replace view report.repository_usage with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, tagged.tags, held.manifests, stored.logical_bytes,
    stored.exclusive_bytes, held.last_pushed_at, pulled.last_pulled_at
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
cross join lateral (
    select count(*) as tags from tags g
    where g.tenant_id = r.tenant_id and g.repository_id = r.id and g.valid_to is null
) tagged
cross join lateral (
    select count(*) as manifests, max(m.pushed_at) as last_pushed_at from manifests m
    where m.tenant_id = r.tenant_id and m.repository_id = r.id and m.deleted_at is null
) held
cross join lateral (
    select coalesce(sum(a.length), 0)::bigint as logical_bytes,
        coalesce(sum(a.length) filter (where not exists (
            select from layers o
            join repositories p on p.tenant_id = o.tenant_id and p.id = o.repository_id and p.deleted_at is null
            where o.tenant_id = a.tenant_id and o.digest = a.digest and o.repository_id <> a.repository_id
        )), 0)::bigint as exclusive_bytes
    from (
        select l.tenant_id, l.repository_id, l.digest, coalesce(l.length, (
            select b.length from blobs b where b.tenant_id = l.tenant_id and b.digest = l.digest
        )) as length
        from layers l where l.tenant_id = r.tenant_id and l.repository_id = r.id
    ) a
) stored
cross join lateral (
    select max(p.last_pulled_at) as last_pulled_at from manifest_pulls p
    where p.tenant_id = r.tenant_id and p.repository_id = r.id
) pulled
where t.name is not null;
