create view report.stale_tags with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, g.name as tag, digest_text(g.digest) as digest,
    g.valid_from as pushed_at, p.last_pulled_at,
    floor(extract(epoch from now() - greatest(g.valid_from, p.last_pulled_at)) / 86400)::bigint as idle_days
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
join tags g on g.tenant_id = r.tenant_id and g.repository_id = r.id and g.valid_to is null
left join tag_pulls p on p.tenant_id = g.tenant_id and p.repository_id = g.repository_id and p.name = g.name
where t.name is not null;
comment on view report.stale_tags is 'Every live tag with its last pull. Those are stale that have been idle for long.

select tag, last_pulled_at, idle_days from report.stale_tags where repository = ''acme/web'' and idle_days >= 90;';
comment on column report.stale_tags.tenant is 'Name of the tenant.';
comment on column report.stale_tags.repository is 'Full name of the repository.';
comment on column report.stale_tags.tag is 'The tag.';
comment on column report.stale_tags.digest is 'What it points to.';
comment on column report.stale_tags.pushed_at is 'Since when it points there.';
comment on column report.stale_tags.last_pulled_at is 'When it was last asked for, to a few seconds; null: never.';
comment on column report.stale_tags.idle_days is 'Whole days since it was last pushed or pulled.';
