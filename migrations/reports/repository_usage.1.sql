create view report.repository_usage with (security_invoker = true) as
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
    select coalesce(sum(b.length), 0)::bigint as logical_bytes,
        coalesce(sum(b.length) filter (where not exists (
            select from layers o
            join repositories p on p.tenant_id = o.tenant_id and p.id = o.repository_id and p.deleted_at is null
            where o.tenant_id = l.tenant_id and o.digest = l.digest and o.repository_id <> l.repository_id
        )), 0)::bigint as exclusive_bytes
    from layers l
    join blobs b on b.tenant_id = l.tenant_id and b.digest = l.digest and b.state = 'live'
    where l.tenant_id = r.tenant_id and l.repository_id = r.id
) stored
cross join lateral (
    select max(p.last_pulled_at) as last_pulled_at from manifest_pulls p
    where p.tenant_id = r.tenant_id and p.repository_id = r.id
) pulled
where t.name is not null;
comment on view report.repository_usage is 'Which repositories are big, and what only they hold.

select repository, logical_bytes, exclusive_bytes, last_pulled_at from report.repository_usage
where tenant = ''acme'' order by exclusive_bytes desc;';
comment on column report.repository_usage.tenant is 'Name of the tenant.';
comment on column report.repository_usage.repository is 'Full name of the repository.';
comment on column report.repository_usage.tags is 'Live tags in it.';
comment on column report.repository_usage.manifests is 'Manifests in it.';
comment on column report.repository_usage.logical_bytes is 'Bytes of its blobs, each counted once.';
comment on column report.repository_usage.exclusive_bytes is 'Bytes of those that no other repository has: what deleting it would free.';
comment on column report.repository_usage.last_pushed_at is 'When the newest of its manifests first came; null: it has none.';
comment on column report.repository_usage.last_pulled_at is 'When one of its manifests was last pulled, to a few seconds; null: never.';
