create view report.blob_usage with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, digest_text(d.manifest_digest) as manifest_digest,
    d.role, digest_text(d.digest) as blob_digest, d.length, d.digest as blob_key
from descriptors d
join repositories r on r.tenant_id = d.tenant_id and r.id = d.repository_id and r.deleted_at is null
join tenants t on t.id = d.tenant_id and t.name is not null
where d.role in ('config', 'layer', 'blob');
comment on view report.blob_usage is 'Which images contain a layer, or any other blob.

select repository, manifest_digest, role from report.blob_usage
where tenant = ''acme'' and blob_key = report.digest(''sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'');';
comment on column report.blob_usage.tenant is 'Name of the tenant.';
comment on column report.blob_usage.repository is 'Full name of the repository.';
comment on column report.blob_usage.manifest_digest is 'The manifest that refers to the blob.';
comment on column report.blob_usage.role is 'What the blob is to it: config, layer or blob.';
comment on column report.blob_usage.blob_digest is 'The blob.';
comment on column report.blob_usage.length is 'Its bytes, as the manifest says.';
comment on column report.blob_usage.blob_key is 'The blob as an index has it: compare it with report.digest(...).';
