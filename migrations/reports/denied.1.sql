create view report.denied with (security_invoker = true) as
select e.at, coalesce(t.name, t.deleted_name) as tenant, e.actor, e.action, e.repository, e.cause, e.reference, e.times,
    e.client_address
from audit_events e
left join tenants t on t.id = e.tenant_id
where e.outcome = 'refused';
comment on view report.denied is 'What was refused, and why. Ask for a time: the audit is kept by the month.

select cause, action, sum(times) as times from report.denied
where tenant = ''acme'' and at >= now() - interval ''1 day'' group by cause, action order by times desc;';
comment on column report.denied.at is 'When.';
comment on column report.denied.tenant is 'Name of the tenant, of a deleted one its last; empty: the server itself, or a tenant that isn''t there.';
comment on column report.denied.actor is 'Who.';
comment on column report.denied.action is 'What was asked for.';
comment on column report.denied.repository is 'Full name of the repository, as it was then.';
comment on column report.denied.cause is 'Why it was refused.';
comment on column report.denied.reference is 'Tag, upload or setting that it was about.';
comment on column report.denied.times is 'How often: refusals that are alike within a few seconds are one row.';
comment on column report.denied.client_address is 'Where the request came from.';
