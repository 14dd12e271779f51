create or replace function report.actor_activity(since timestamptz, until timestamptz)
returns table (
    tenant text, actor text, first_at timestamptz, last_at timestamptz, repository text, action text, count bigint
)
language sql stable
begin atomic
    select coalesce(t.name, t.deleted_name), e.actor, min(e.at), max(e.at), e.repository, e.action, sum(e.times)::bigint
    from audit_events e
    left join tenants t on t.id = e.tenant_id
    where e.at >= actor_activity.since and e.at < actor_activity.until
    group by e.tenant_id, t.name, t.deleted_name, e.actor, e.repository, e.action;
end;
