-- A day is over ten minutes after midnight: whoever wrote into the audit before it has committed by then.
create function roll_up_days() returns void
language plpgsql set search_path = pg_catalog, public, pg_temp
as $$
declare
    today date := ((now() - interval '10 minutes') at time zone 'UTC')::date;
begin
    if not pg_try_advisory_xact_lock(hashtext('distsql: days')) then
        return;
    end if;
    insert into daily_pushes (tenant_id, day, repository, pushes, bytes)
    select t.id, p.day, p.repository, p.pushes, p.bytes
    from tenants t
    left join lateral (select max(u.day) as day from daily_usage u where u.tenant_id = t.id) last on true
    cross join lateral (
        select (e.at at time zone 'UTC')::date as day, e.repository,
            count(distinct (e.digest, case e.request_id when '' then e.id::text else e.request_id end))
                filter (where e.action = 'manifest.put') as pushes,
            coalesce(sum(b.length) filter (where e.action = 'blob.put'), 0)::bigint as bytes
        from audit_events e
        left join blobs b on e.action = 'blob.put' and b.tenant_id = e.tenant_id and b.digest = e.digest
        where e.tenant_id = t.id and e.at < today::timestamp at time zone 'UTC'
        and e.at >= coalesce(last.day::timestamp at time zone 'UTC', '-infinity')
        and e.action in ('manifest.put', 'blob.put') and e.outcome = 'done' and e.repository is not null
        group by 1, 2
    ) p
    on conflict do nothing;
    insert into daily_usage (tenant_id, day, tenant, stored_bytes)
    select t.id, d.day, coalesce(t.name, t.deleted_name),
        case when d.day = today then coalesce(used.stored_bytes, 0) else last.stored_bytes end
    from tenants t
    left join lateral (
        select u.day, u.stored_bytes from daily_usage u where u.tenant_id = t.id order by u.day desc limit 1
    ) last on true
    left join lateral (
        select sum(u.stored_bytes)::bigint as stored_bytes from tenant_usage u where u.tenant_id = t.id
    ) used on true
    -- Days on which nobody looked are as the one before them.
    cross join lateral (
        select day::date from generate_series(coalesce(last.day + 1, today), today, interval '1 day') day
        union select today where last.day <= today
    ) d
    where t.id <> 0
    on conflict (tenant_id, day) do update set stored_bytes = excluded.stored_bytes, tenant = excluded.tenant;
end $$;
comment on function roll_up_days() is 'Writes down what tenants store now, and what was pushed on days that are over.';
