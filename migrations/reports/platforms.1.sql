create view report.platforms with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, g.name as tag, digest_text(g.digest) as digest,
    p.os, p.architecture, p.variant
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
join tags g on g.tenant_id = r.tenant_id and g.repository_id = r.id and g.valid_to is null
-- Of an index its children's; of another image what an index of the repository says of it; else what nobody knows.
left join lateral (
    select distinct d.os, d.architecture, d.variant from descriptors d
    where d.tenant_id = g.tenant_id and d.role = 'manifest' and d.os is not null and (
        d.repository_id = g.repository_id and d.manifest_digest = g.digest and d.os <> 'unknown'
        or d.digest = g.digest and d.repository_id = g.repository_id
    )
) p on true
where t.name is not null;
comment on view report.platforms is 'Which platforms a tagged image has, as indexes say: a row for each. A single image that no index has is one row without any: its config says.

select tag, os, architecture, variant from report.platforms where repository = ''acme/web'';';
comment on column report.platforms.tenant is 'Name of the tenant.';
comment on column report.platforms.repository is 'Full name of the repository.';
comment on column report.platforms.tag is 'The tag.';
comment on column report.platforms.digest is 'What it points to.';
comment on column report.platforms.os is 'Operating system; null: no index says.';
comment on column report.platforms.architecture is 'Processor architecture; null: no index says.';
comment on column report.platforms.variant is 'Variant of the architecture, if any.';
