-- A base is an image whose layers are the first ones of another's. Where they end, its last layer is one of the other's.
create view report.base_images with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, digest_text(x.manifest_digest) as manifest_digest,
    t.name || '/' || s.path as base_repository, digest_text(y.manifest_digest) as base_digest,
    exists (
        select from tags g
        where g.tenant_id = y.tenant_id and g.repository_id = y.repository_id and g.live_digest = y.manifest_digest
    ) as current,
    y.manifest_digest as base_key
from tenants t
join descriptors y on y.tenant_id = t.id and y.role = 'layer'
join descriptors x on x.tenant_id = y.tenant_id and x.digest = y.digest and x.role = 'layer'
join repositories r on r.tenant_id = x.tenant_id and r.id = x.repository_id and r.deleted_at is null
join repositories s on s.tenant_id = y.tenant_id and s.id = y.repository_id and s.deleted_at is null
where t.name is not null
and not exists (
    select from descriptors n
    where n.tenant_id = y.tenant_id and n.repository_id = y.repository_id and n.manifest_digest = y.manifest_digest
    and n.role = 'layer' and n.position > y.position
)
and exists (
    select from descriptors n
    where n.tenant_id = x.tenant_id and n.repository_id = x.repository_id and n.manifest_digest = x.manifest_digest
    and n.role = 'layer' and n.position > x.position
)
and array(
    select n.digest from descriptors n
    where n.tenant_id = y.tenant_id and n.repository_id = y.repository_id and n.manifest_digest = y.manifest_digest
    and n.role = 'layer' and n.position <= y.position order by n.position
) = array(
    select n.digest from descriptors n
    where n.tenant_id = x.tenant_id and n.repository_id = x.repository_id and n.manifest_digest = x.manifest_digest
    and n.role = 'layer' and n.position <= x.position order by n.position
);
comment on view report.base_images is 'What is built on what: the base''s layers are the first ones of the image. Images lag behind whose base isn''t current.

select repository, manifest_digest, base_digest from report.base_images
where repository = ''acme/web'' and base_repository = ''acme/debian'' and not current;';
comment on column report.base_images.tenant is 'Name of the tenant.';
comment on column report.base_images.repository is 'Full name of the image''s repository.';
comment on column report.base_images.manifest_digest is 'The image.';
comment on column report.base_images.base_repository is 'Full name of the base''s repository.';
comment on column report.base_images.base_digest is 'The base.';
comment on column report.base_images.current is 'Whether a tag points to the base. If not, its tags have moved on or gone, and the image lags behind.';
comment on column report.base_images.base_key is 'The base as an index has it: compare it with report.digest(...).';
