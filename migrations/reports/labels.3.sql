create or replace view report.labels with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, digest_text(a.manifest_digest) as digest, a.key,
    a.value, 'annotation' as kind
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
join annotations a on a.tenant_id = r.tenant_id and a.repository_id = r.id
join manifests m on m.tenant_id = a.tenant_id and m.repository_id = a.repository_id and m.digest = a.manifest_digest
    and m.deleted_at is null
where t.name is not null
union all
select t.name, t.name || '/' || r.path, digest_text(m.digest), l.key, l.value, 'label'
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
join manifests m on m.tenant_id = r.tenant_id and m.repository_id = r.id and m.deleted_at is null
join descriptors d on d.tenant_id = m.tenant_id and d.repository_id = m.repository_id and d.manifest_digest = m.digest
    and d.role = 'config'
join image_labels l on l.tenant_id = d.tenant_id and l.digest = d.digest
where t.name is not null
union all
select t.name, t.name || '/' || r.path, digest_text(l.manifest_digest), l.key, l.value, 'label'
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
join manifest_labels l on l.tenant_id = r.tenant_id and l.repository_id = r.id
join manifests m on m.tenant_id = l.tenant_id and m.repository_id = l.repository_id and m.digest = l.manifest_digest
    and m.deleted_at is null
where t.name is not null;
comment on view report.labels is 'Images by the labels in their configs, and manifests by their annotations. Labels come a few seconds after the push, of Docker schema 1 with it; a config over 1 MiB isn''t looked into.

select repository, digest, value from report.labels
where repository = ''acme/web'' and key = ''org.opencontainers.image.revision'';';
comment on column report.labels.key is 'Name of the label or annotation.';
comment on column report.labels.kind is 'label: of the image, in its config (of Docker schema 1 in the manifest); annotation: of the manifest.';
