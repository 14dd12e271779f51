create or replace view report.pushes_by_day with (security_invoker = true) as
select coalesce(t.name, t.deleted_name) as tenant, p.repository, p.day, p.pushes, p.bytes
from tenants t
left join day_roll_ups u on u.tenant_id = t.id
join daily_pushes p on p.tenant_id = t.id and p.day < coalesce(u.pushes_until at time zone 'UTC', 'infinity')::date
union all
-- The newest days, of which something isn't rolled up yet: the last minutes.
select coalesce(t.name, t.deleted_name), p.repository, p.day, p.pushes, p.bytes
from tenants t
left join day_roll_ups u on u.tenant_id = t.id
-- Made before they are compared, as an index wants it where policies hold.
cross join lateral (
    select w.at, w.at - interval '1 second' as before_at, w.at + interval '1 second' as behind_at
    from (select coalesce(u.pushes_until, '-infinity') as at) w
    offset 0
) last
cross join lateral (
    select n.repository, n.day, sum(n.pushes)::bigint as pushes, sum(n.bytes)::bigint as bytes
    from (
        select d.repository, d.day, d.pushes, d.bytes from daily_pushes d
        where d.tenant_id = t.id and d.day >= (u.pushes_until at time zone 'UTC')::date
        union all
        select a.repository, a.day, a.pushes, a.bytes
        from (
            select (e.at at time zone 'UTC')::date as day, e.repository,
                count(distinct (e.digest, case e.request_id when '' then e.id::text else e.request_id end))
                    filter (where e.action = 'manifest.put') as pushes,
                coalesce(sum(b.length) filter (where e.action = 'blob.put'), 0)::bigint as bytes
            from audit_events e
            left join blobs b on e.action = 'blob.put' and b.tenant_id = e.tenant_id and b.digest = e.digest
            where e.tenant_id = t.id and e.at >= last.at
            and e.action in ('manifest.put', 'blob.put') and e.outcome = 'done' and e.repository is not null
            -- Events of one request that tags a manifest several times are within a moment: what began before was counted there.
            and (
                e.action = 'blob.put' or e.request_id = '' or e.at >= last.behind_at or not exists (
                    select from audit_events p
                    where p.tenant_id = e.tenant_id and p.at >= last.before_at and p.at < last.at
                    and p.action = 'manifest.put' and p.request_id = e.request_id and p.digest = e.digest
                )
            )
            group by 1, 2
        ) a
    ) n
    group by n.repository, n.day
) p;
comment on view report.pushes_by_day is 'How much arrives. All but the last minutes is rolled up by the servers, so that it stays when the audit is exported.

select day, sum(pushes) as pushes, sum(bytes) as bytes from report.pushes_by_day
where tenant = ''acme'' and day >= current_date - 30 group by day order by day;';
comment on column report.pushes_by_day.tenant is 'Name of the tenant, of a deleted one its last.';
comment on column report.pushes_by_day.repository is 'Full name of the repository, as it was then.';
comment on column report.pushes_by_day.day is 'In UTC.';
comment on column report.pushes_by_day.pushes is 'Manifests that were pushed; with several tags at once it is one push.';
comment on column report.pushes_by_day.bytes is 'Of blobs that were uploaded: what was there already isn''t uploaded.';
