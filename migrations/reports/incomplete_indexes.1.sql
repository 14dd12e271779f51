create view report.incomplete_indexes with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, digest_text(d.manifest_digest) as digest,
    digest_text(d.digest) as missing_digest, concat_ws('/', d.os, d.architecture, d.variant) as platform
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
join descriptors d on d.tenant_id = r.tenant_id and d.repository_id = r.id and d.role = 'manifest'
where t.name is not null and not exists (
    select from manifests m
    where m.tenant_id = d.tenant_id and m.repository_id = d.repository_id and m.digest = d.digest
    and m.deleted_at is null
);
comment on view report.incomplete_indexes is 'Indexes that lack children, with a row for each that is missing.

select digest, missing_digest, platform from report.incomplete_indexes where repository = ''acme/web'';';
comment on column report.incomplete_indexes.tenant is 'Name of the tenant.';
comment on column report.incomplete_indexes.repository is 'Full name of the repository.';
comment on column report.incomplete_indexes.digest is 'The index.';
comment on column report.incomplete_indexes.missing_digest is 'The child that isn''t there.';
comment on column report.incomplete_indexes.platform is 'The child''s platform, as os/architecture/variant; empty where the index says none.';
