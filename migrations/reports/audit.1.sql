create view report.audit with (security_invoker = true) as
select e.at, coalesce(t.name, t.deleted_name) as tenant, e.actor, e.action, e.repository, e.reference,
    digest_text(e.digest) as digest, e.outcome, e.client_address, e.user_agent, e.request_id
from audit_events e
left join tenants t on t.id = e.tenant_id;
comment on view report.audit is 'Everything that anyone did. Ask for a time: the audit is kept by the month.

select at, actor, action, repository, reference, outcome from report.audit
where tenant = ''acme'' and at >= now() - interval ''1 day'' order by at desc limit 100;';
comment on column report.audit.at is 'When.';
comment on column report.audit.tenant is 'Name of the tenant, of a deleted one its last; empty: the server itself; null: it is gone altogether.';
comment on column report.audit.actor is 'Who.';
comment on column report.audit.action is 'What was done: manifest.put, tag.delete ...';
comment on column report.audit.repository is 'Full name of the repository, as it was then.';
comment on column report.audit.reference is 'Tag, upload or setting that it was done to.';
comment on column report.audit.digest is 'Content that it was done with.';
comment on column report.audit.outcome is 'done or refused.';
comment on column report.audit.client_address is 'Where the request came from.';
comment on column report.audit.user_agent is 'What the client says it is.';
comment on column report.audit.request_id is 'As in the access log.';
