-- Whoever wrote into the audit has committed ten minutes later; so a day is over ten minutes after midnight.
create function roll_up_days(unless_since interval default '0') returns void
language plpgsql set search_path = pg_catalog, public, pg_temp
as $$
declare
    settled timestamptz := now() - interval '10 minutes';
    today date := (settled at time zone 'UTC')::date;
begin
    if not pg_try_advisory_xact_lock(hashtext('distsql: days')) then
        return;
    end if;
    insert into day_roll_ups (tenant_id, pushes_until) values (0, now())
    on conflict (tenant_id) do update set pushes_until = excluded.pushes_until
    where day_roll_ups.pushes_until <= now() - unless_since;
    if not found then
        return;
    end if;
    insert into daily_pushes (tenant_id, day, repository, pushes, bytes)
    select t.id, p.day, p.repository, p.pushes, p.bytes
    from tenants t
    left join day_roll_ups u on u.tenant_id = t.id
    -- Made before they are compared, as an index wants it where policies hold.
    cross join lateral (
        select w.at, w.at - interval '1 second' as before_at, w.at + interval '1 second' as behind_at
        from (select coalesce(u.pushes_until, '-infinity') as at) w
        offset 0
    ) last
    cross join lateral (
        select (e.at at time zone 'UTC')::date as day, e.repository,
            count(distinct (e.digest, case e.request_id when '' then e.id::text else e.request_id end))
                filter (where e.action = 'manifest.put') as pushes,
            coalesce(sum(b.length) filter (where e.action = 'blob.put'), 0)::bigint as bytes
        from audit_events e
        left join blobs b on e.action = 'blob.put' and b.tenant_id = e.tenant_id and b.digest = e.digest
        where e.tenant_id = t.id and e.at >= last.at and e.at < settled
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
    ) p
    where t.id <> 0
    on conflict (tenant_id, day, repository) do update
    set pushes = daily_pushes.pushes + excluded.pushes, bytes = daily_pushes.bytes + excluded.bytes;
    insert into day_roll_ups (tenant_id, pushes_until) select t.id, settled from tenants t where t.id <> 0
    on conflict (tenant_id) do update set pushes_until = greatest(day_roll_ups.pushes_until, excluded.pushes_until);
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
comment on function roll_up_days(interval) is 'Writes down what tenants store now, and what was pushed up to ten minutes ago; nothing when somebody did so since, or does it now.';
