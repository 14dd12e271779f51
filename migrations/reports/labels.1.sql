create view report.labels with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, digest_text(a.manifest_digest) as digest, a.key, a.value
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
join annotations a on a.tenant_id = r.tenant_id and a.repository_id = r.id
join manifests m on m.tenant_id = a.tenant_id and m.repository_id = a.repository_id and m.digest = a.manifest_digest
    and m.deleted_at is null
where t.name is not null;
comment on view report.labels is 'Images by their annotations. Labels inside an image''s config are bytes of a blob, which the catalogue doesn''t read.

select repository, digest, value from report.labels
where repository = ''acme/web'' and key = ''org.opencontainers.image.revision'';';
comment on column report.labels.tenant is 'Name of the tenant.';
comment on column report.labels.repository is 'Full name of the repository.';
comment on column report.labels.digest is 'The manifest.';
comment on column report.labels.key is 'Name of the annotation.';
comment on column report.labels.value is 'Its text.';
