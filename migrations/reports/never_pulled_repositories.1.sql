create view report.never_pulled_repositories with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, held.manifests, stored.stored_bytes, held.last_pushed_at
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
cross join lateral (
    select count(*) as manifests, max(m.pushed_at) as last_pushed_at from manifests m
    where m.tenant_id = r.tenant_id and m.repository_id = r.id and m.deleted_at is null
    having count(*) > 0
) held
cross join lateral (
    select coalesce(sum(b.length), 0)::bigint as stored_bytes
    from layers l
    join blobs b on b.tenant_id = l.tenant_id and b.digest = l.digest and b.state = 'live'
    where l.tenant_id = r.tenant_id and l.repository_id = r.id
) stored
where t.name is not null
and not exists (
    select from manifest_pulls p where p.tenant_id = r.tenant_id and p.repository_id = r.id
)
and not exists (
    select from tag_pulls p where p.tenant_id = r.tenant_id and p.repository_id = r.id
);
comment on view report.never_pulled_repositories is 'Repositories that were pushed to, and never pulled from.

select repository, manifests, stored_bytes, last_pushed_at from report.never_pulled_repositories
where tenant = ''acme'' order by stored_bytes desc limit 100;';
comment on column report.never_pulled_repositories.tenant is 'Name of the tenant.';
comment on column report.never_pulled_repositories.repository is 'Full name of the repository.';
comment on column report.never_pulled_repositories.manifests is 'Manifests in it.';
comment on column report.never_pulled_repositories.stored_bytes is 'Bytes of its blobs, each counted once; other repositories may have some of them too.';
comment on column report.never_pulled_repositories.last_pushed_at is 'When the newest of its manifests first came.';
