create view report.unused_credentials with (security_invoker = true) as
select t.name as tenant, t.name || '/' || a.name as account, a.kind, a.created_at, a.last_used_at,
    floor(extract(epoch from now() - coalesce(a.last_used_at, a.created_at)) / 86400)::bigint as idle_days,
    a.expires_at, a.disabled_at
from tenants t
join accounts a on a.tenant_id = t.id
where t.name is not null;
comment on view report.unused_credentials is 'Every account and token with its last use. Those are unused that have been idle for long.

select account, kind, last_used_at from report.unused_credentials where idle_days >= 90 and disabled_at is null;';
comment on column report.unused_credentials.tenant is 'Name of the tenant.';
comment on column report.unused_credentials.account is 'The login name.';
comment on column report.unused_credentials.kind is 'person, robot or token.';
comment on column report.unused_credentials.created_at is 'When it was made.';
comment on column report.unused_credentials.last_used_at is 'When it was last used, to a few seconds; null: never.';
comment on column report.unused_credentials.idle_days is 'Whole days since it was last used, or else made.';
comment on column report.unused_credentials.expires_at is 'From when on it opens nothing; null: it doesn''t expire.';
comment on column report.unused_credentials.disabled_at is 'Since when it is switched off; null: it isn''t.';
