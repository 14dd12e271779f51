create view report.pulls_by_day with (security_invoker = true) as
select coalesce(t.name, t.deleted_name) as tenant, coalesce(t.name, t.deleted_name) || '/' || r.path as repository, p.day,
    p.actor_kind, p.pulls, p.sent_bytes + p.redirected_bytes as bytes, p.requests
from daily_pulls p
left join tenants t on t.id = p.tenant_id
left join repositories r on r.tenant_id = p.tenant_id and r.id = p.repository_id;
comment on view report.pulls_by_day is 'How much is pulled, and by whom. What was pulled from repositories stays when they are deleted; once they are gone altogether their name is null.

select day, actor_kind, pulls, bytes from report.pulls_by_day
where tenant = ''acme'' and day >= current_date - 30 order by day;';
comment on column report.pulls_by_day.tenant is 'Name of the tenant, of a deleted one its last; null: it is gone altogether.';
comment on column report.pulls_by_day.repository is 'Full name of the repository; null: it is gone altogether.';
comment on column report.pulls_by_day.day is 'In UTC.';
comment on column report.pulls_by_day.actor_kind is 'anonymous; account: a person''s; robot: a robot''s or a deploy token.';
comment on column report.pulls_by_day.pulls is 'Manifests that were given out.';
comment on column report.pulls_by_day.bytes is 'Of manifests and blobs, sent by the registry or by the byte store that clients were sent to.';
comment on column report.pulls_by_day.requests is 'Requests that were answered well, of any kind.';
