create view report.dangling_referrers with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, digest_text(m.digest) as digest,
    digest_text(m.subject_digest) as subject_digest, m.artifact_type
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
join manifests m on m.tenant_id = r.tenant_id and m.repository_id = r.id and m.deleted_at is null
where t.name is not null and m.subject_digest is not null and not exists (
    select from manifests s
    where s.tenant_id = m.tenant_id and s.repository_id = m.repository_id and s.digest = m.subject_digest
    and s.deleted_at is null
);
comment on view report.dangling_referrers is 'Signatures, SBOMs and the like whose subject is gone, or never came.

select digest, subject_digest, artifact_type from report.dangling_referrers where repository = ''acme/web'';';
comment on column report.dangling_referrers.tenant is 'Name of the tenant.';
comment on column report.dangling_referrers.repository is 'Full name of the repository.';
comment on column report.dangling_referrers.digest is 'The manifest that refers.';
comment on column report.dangling_referrers.subject_digest is 'What it says something about.';
comment on column report.dangling_referrers.artifact_type is 'What it is.';
