-- Tenants first: who asks for one reads its events, and no others. What is of none any more can't be asked for by name.
create or replace view report.audit with (security_invoker = true) as
select e.at, coalesce(t.name, t.deleted_name) as tenant, e.actor, e.action, e.repository, e.reference,
    digest_text(e.digest) as digest, e.outcome, e.client_address, e.user_agent, e.request_id, e.account_id, e.token_id,
    e.cause, e.times
from tenants t
join audit_events e on e.tenant_id = t.id
union all
select e.at, null, e.actor, e.action, e.repository, e.reference,
    digest_text(e.digest) as digest, e.outcome, e.client_address, e.user_agent, e.request_id, e.account_id, e.token_id,
    e.cause, e.times
from audit_events e
where not exists (select from tenants t where t.id = e.tenant_id);
comment on view report.audit is 'Everything that anyone did. Ask for a time: the audit is kept by the month, and asking takes as long as there are events in it, 100 ms for some 50,000.

select at, actor, action, repository, reference, outcome from report.audit
where tenant = ''acme'' and at >= now() - interval ''1 hour'' order by at desc limit 100;';
