-- Tenants first, as in report.audit.
create or replace view report.denied with (security_invoker = true) as
select e.at, coalesce(t.name, t.deleted_name) as tenant, e.actor, e.action, e.repository, e.cause, e.reference, e.times,
    e.client_address
from tenants t
join audit_events e on e.tenant_id = t.id
where e.outcome = 'refused'
union all
select e.at, null, e.actor, e.action, e.repository, e.cause, e.reference, e.times, e.client_address
from audit_events e
where e.outcome = 'refused' and not exists (select from tenants t where t.id = e.tenant_id);
