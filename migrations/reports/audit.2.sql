create or replace view report.audit with (security_invoker = true) as
select e.at, coalesce(t.name, t.deleted_name) as tenant, e.actor, e.action, e.repository, e.reference,
    digest_text(e.digest) as digest, e.outcome, e.client_address, e.user_agent, e.request_id, e.account_id, e.token_id,
    e.cause, e.times
from audit_events e
left join tenants t on t.id = e.tenant_id;
comment on column report.audit.account_id is 'The actor''s account: accounts.id; null: nobody''s, or a command.';
comment on column report.audit.token_id is 'Tells tokens apart; null: no token.';
comment on column report.audit.cause is 'Why it was refused; null: it wasn''t.';
comment on column report.audit.times is 'How often: refusals and logins that are alike within a few seconds are one row.';
