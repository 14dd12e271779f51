-- From the base to what is built on it, whatever the statistics say: a lateral with `offset 0` is no join to the planner.
-- Where the base ends, its last layer is one of the other's, and all before it are the same.
create or replace view report.base_images with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, digest_text(x.manifest_digest) as manifest_digest,
    t.name || '/' || s.path as base_repository, digest_text(y.manifest_digest) as base_digest,
    exists (
        select from tags g
        where g.tenant_id = y.tenant_id and g.repository_id = y.repository_id and g.live_digest = y.manifest_digest
    ) as current,
    y.manifest_digest as base_key
from tenants t
join repositories s on s.tenant_id = t.id and s.deleted_at is null
join descriptors y on y.tenant_id = s.tenant_id and y.repository_id = s.id and y.role = 'layer' and y.position = (
    select max(n.position) from descriptors n
    where n.tenant_id = y.tenant_id and n.repository_id = y.repository_id and n.manifest_digest = y.manifest_digest
    and n.role = 'layer'
)
cross join lateral (
    select n.tenant_id, n.repository_id, n.manifest_digest, n.position from descriptors n
    where n.tenant_id = y.tenant_id and n.digest = y.digest and n.role = 'layer'
    and exists (
        select from descriptors o
        where o.tenant_id = n.tenant_id and o.repository_id = n.repository_id and o.manifest_digest = n.manifest_digest
        and o.role = 'layer' and o.position > n.position
    )
    offset 0
) x
join repositories r on r.tenant_id = x.tenant_id and r.id = x.repository_id and r.deleted_at is null
where t.name is not null
and array(
    select n.digest from descriptors n
    where n.tenant_id = y.tenant_id and n.repository_id = y.repository_id and n.manifest_digest = y.manifest_digest
    and n.role = 'layer' and n.position <= y.position order by n.position
) = array(
    select n.digest from descriptors n
    where n.tenant_id = x.tenant_id and n.repository_id = x.repository_id and n.manifest_digest = x.manifest_digest
    and n.role = 'layer' and n.position <= x.position order by n.position
);
comment on view report.base_images is 'What is built on what: the base''s layers are the first ones of the image. Images lag behind whose base isn''t current. Ask for a base, by its repository or base_key: that is the quick way round.

select repository, manifest_digest, base_digest from report.base_images
where base_repository = ''acme/web'' and not current limit 100;';
