create view report.stuck_uploads with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, u.uuid, u.actor, u.offset_bytes, u.started_at,
    u.expires_at
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
join uploads u on u.tenant_id = r.tenant_id and u.repository_id = r.id
where t.name is not null and u.started_at < now() - interval '1 day';
comment on view report.stuck_uploads is 'Uploads that began more than a day ago and aren''t finished.

select repository, uuid, actor, offset_bytes, started_at from report.stuck_uploads order by started_at;';
comment on column report.stuck_uploads.tenant is 'Name of the tenant.';
comment on column report.stuck_uploads.repository is 'Full name of the repository.';
comment on column report.stuck_uploads.uuid is 'The session''s name.';
comment on column report.stuck_uploads.actor is 'Who began it.';
comment on column report.stuck_uploads.offset_bytes is 'Bytes so far.';
comment on column report.stuck_uploads.started_at is 'When it began.';
comment on column report.stuck_uploads.expires_at is 'When it is forgotten unless something is written to it.';
