create view report.pushes_by_day with (security_invoker = true) as
select coalesce(t.name, t.deleted_name) as tenant, p.repository, p.day, p.pushes, p.bytes
from tenants t
join daily_pushes p on p.tenant_id = t.id
union all
-- What isn't rolled up yet: the days from the newest one on that was.
select coalesce(t.name, t.deleted_name), p.repository, p.day, p.pushes, p.bytes
from tenants t
left join lateral (select max(u.day) as day from daily_usage u where u.tenant_id = t.id) last on true
cross join lateral (
    select (e.at at time zone 'UTC')::date as day, e.repository,
        count(distinct (e.digest, case e.request_id when '' then e.id::text else e.request_id end))
            filter (where e.action = 'manifest.put') as pushes,
        coalesce(sum(b.length) filter (where e.action = 'blob.put'), 0)::bigint as bytes
    from audit_events e
    left join blobs b on e.action = 'blob.put' and b.tenant_id = e.tenant_id and b.digest = e.digest
    where e.tenant_id = t.id and e.at >= coalesce(last.day::timestamp at time zone 'UTC', '-infinity')
    and e.action in ('manifest.put', 'blob.put') and e.outcome = 'done' and e.repository is not null
    group by 1, 2
) p;
comment on view report.pushes_by_day is 'How much arrives. What arrived before the audit was last exported is rolled up, by day.

select day, sum(pushes) as pushes, sum(bytes) as bytes from report.pushes_by_day
where tenant = ''acme'' and day >= current_date - 30 group by day order by day;';
comment on column report.pushes_by_day.tenant is 'Name of the tenant, of a deleted one its last.';
comment on column report.pushes_by_day.repository is 'Full name of the repository, as it was then.';
comment on column report.pushes_by_day.day is 'In UTC.';
comment on column report.pushes_by_day.pushes is 'Manifests that were pushed; with several tags at once it is one push.';
comment on column report.pushes_by_day.bytes is 'Of blobs that were uploaded: what was there already isn''t uploaded.';
