-- What is linked is live, and says itself how long it is; where a version before wrote it, the blob does.
create or replace view report.never_pulled_repositories with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository,
    (
        select count(*) from manifests m
        where m.tenant_id = r.tenant_id and m.repository_id = r.id and m.deleted_at is null
    ) as manifests,
    (
        select coalesce(sum(coalesce(l.length, (
            select b.length from blobs b where b.tenant_id = l.tenant_id and b.digest = l.digest
        ))), 0)::bigint
        from layers l where l.tenant_id = r.tenant_id and l.repository_id = r.id
    ) as stored_bytes,
    (
        select max(m.pushed_at) from manifests m
        where m.tenant_id = r.tenant_id and m.repository_id = r.id and m.deleted_at is null
    ) as last_pushed_at
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
where t.name is not null
and exists (
    select from manifests m where m.tenant_id = r.tenant_id and m.repository_id = r.id and m.deleted_at is null
)
and not exists (
    select from manifest_pulls p where p.tenant_id = r.tenant_id and p.repository_id = r.id
)
and not exists (
    select from tag_pulls p where p.tenant_id = r.tenant_id and p.repository_id = r.id
);
comment on view report.never_pulled_repositories is 'Repositories that were pushed to, and never pulled from. What is stored in each is added up as it is shown: ask for a page, or leave it out.

select repository, manifests, stored_bytes, last_pushed_at from report.never_pulled_repositories
where tenant = ''acme'' limit 20;';
