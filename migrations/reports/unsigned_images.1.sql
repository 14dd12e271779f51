create view report.unsigned_images with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, g.name as tag, digest_text(g.digest) as digest
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
join tags g on g.tenant_id = r.tenant_id and g.repository_id = r.id and g.valid_to is null
where t.name is not null
-- What cosign says about images is no image: it is tagged after what it is about.
and g.name !~ '^sha(256|512)-[0-9a-f]{64,128}(\.(sig|att|sbom))?$'
and not exists (
    select from signatures j
    where j.tenant_id = g.tenant_id and j.repository_id = g.repository_id and j.manifest_digest = g.digest
)
and not exists (
    select from signing_manifests s
    join manifests m on m.tenant_id = s.tenant_id and m.repository_id = s.repository_id
        and m.digest = s.manifest_digest and m.deleted_at is null
    where s.tenant_id = g.tenant_id and s.repository_id = g.repository_id and s.subject_digest = g.digest
);
comment on view report.unsigned_images is 'Tagged images without any signature: no JWS, no tag of cosign''s, no referrer. That of an index doesn''t count for its children.

select tag, digest from report.unsigned_images where repository = ''acme/web'';';
comment on column report.unsigned_images.tenant is 'Name of the tenant.';
comment on column report.unsigned_images.repository is 'Full name of the repository.';
comment on column report.unsigned_images.tag is 'A tag that points to it.';
comment on column report.unsigned_images.digest is 'The image.';
