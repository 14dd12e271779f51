create view report.quota_forecast with (security_invoker = true) as
select t.name as tenant, t.quota_bytes, used.used_bytes,
    case when t.quota_bytes > 0 then round(100.0 * used.used_bytes / t.quota_bytes)::bigint end as percent,
    g.daily_growth_bytes,
    case
        when used.used_bytes >= t.quota_bytes then current_date
        when g.daily_growth_bytes > 0 and (t.quota_bytes - used.used_bytes) / g.daily_growth_bytes < 36500
        then current_date + ceil((t.quota_bytes - used.used_bytes)::numeric / g.daily_growth_bytes)::integer
    end as exhausted_on
from tenants t
cross join lateral (
    select coalesce(sum(u.stored_bytes), 0)::bigint as used_bytes from tenant_usage u where u.tenant_id = t.id
) used
left join lateral (
    select u.day, u.stored_bytes from daily_usage u
    where u.tenant_id = t.id and u.day >= current_date - 30 and u.day < current_date order by u.day limit 1
) earlier on true
cross join lateral (
    select (used.used_bytes - earlier.stored_bytes) / (current_date - earlier.day) as daily_growth_bytes
) g
where t.id <> 0 and t.name is not null and t.quota_bytes is not null;
comment on view report.quota_forecast is 'Who runs out of its quota of bytes, and when, if it goes on as in the last 30 days.

select tenant, percent, exhausted_on from report.quota_forecast where exhausted_on < current_date + 30 order by exhausted_on;';
comment on column report.quota_forecast.tenant is 'Name of the tenant; those without a quota aren''t here.';
comment on column report.quota_forecast.quota_bytes is 'Most bytes that it may store.';
comment on column report.quota_forecast.used_bytes is 'Bytes that it stores, each blob counted once.';
comment on column report.quota_forecast.percent is 'Of the quota that is used; null for a quota of 0.';
comment on column report.quota_forecast.daily_growth_bytes is 'More each day, over the last 30 days or those that are known; null: it is known of today only.';
comment on column report.quota_forecast.exhausted_on is 'When the quota is used up; null: not as it goes now, or not in a hundred years.';
