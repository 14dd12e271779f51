create function report.actor_activity(since timestamptz, until timestamptz)
returns table (
    tenant text, actor text, first_at timestamptz, last_at timestamptz, repository text, action text, count bigint
)
language sql stable
begin atomic
    select coalesce(t.name, t.deleted_name), e.actor, min(e.at), max(e.at), e.repository, e.action, count(*)
    from audit_events e
    left join tenants t on t.id = e.tenant_id
    where e.at >= actor_activity.since and e.at < actor_activity.until
    group by e.tenant_id, t.name, t.deleted_name, e.actor, e.repository, e.action;
end;
comment on function report.actor_activity(timestamptz, timestamptz) is 'Everything that an identity touched between two instants, the second one exclusive: for incidents.

select repository, action, count, first_at, last_at
from report.actor_activity(now() - interval ''1 hour'', now()) where tenant = ''acme'' and actor = ''acme/ci'';';
