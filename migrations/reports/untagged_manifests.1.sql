create view report.untagged_manifests with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, digest_text(m.digest) as digest, m.media_type, m.length,
    m.pushed_at,
    exists (
        select from descriptors d where d.tenant_id = m.tenant_id and d.digest = m.digest
        and d.repository_id = m.repository_id and d.role = 'manifest'
    ) as in_index,
    digest_text(m.subject_digest) as subject_digest
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
join manifests m on m.tenant_id = r.tenant_id and m.repository_id = r.id and m.deleted_at is null
where t.name is not null and not exists (
    select from tags g
    where g.tenant_id = m.tenant_id and g.repository_id = m.repository_id and g.live_digest = m.digest
);
comment on view report.untagged_manifests is 'Manifests that no tag points to, with their age and size. Most are parts of an index, or say something about another manifest.

select digest, length, pushed_at from report.untagged_manifests
where repository = ''acme/web'' and not in_index and subject_digest is null order by pushed_at;';
comment on column report.untagged_manifests.tenant is 'Name of the tenant.';
comment on column report.untagged_manifests.repository is 'Full name of the repository.';
comment on column report.untagged_manifests.digest is 'The manifest.';
comment on column report.untagged_manifests.media_type is 'Its media type.';
comment on column report.untagged_manifests.length is 'Bytes of its payload.';
comment on column report.untagged_manifests.pushed_at is 'When it was first pushed.';
comment on column report.untagged_manifests.in_index is 'Whether an index of the repository has it.';
comment on column report.untagged_manifests.subject_digest is 'What it says something about, if anything.';
