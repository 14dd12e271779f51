create function report.chargeback(month date)
returns table (tenant text, stored_byte_days bigint, egress_bytes bigint, requests bigint)
language sql stable
begin atomic
    with days as (
        select date_trunc('month', chargeback.month)::date as first,
            (date_trunc('month', chargeback.month) + interval '1 month')::date as next
    ),
    stored as (
        select u.tenant_id, sum(u.stored_bytes)::bigint as byte_days, max(u.tenant) as tenant
        from days d join daily_usage u on u.day >= d.first and u.day < d.next
        group by u.tenant_id
    ),
    pulled as (
        select p.tenant_id, sum(p.sent_bytes + p.redirected_bytes)::bigint as egress, sum(p.requests)::bigint as requests
        from days d join daily_pulls p on p.day >= d.first and p.day < d.next
        group by p.tenant_id
    )
    select coalesce(t.name, t.deleted_name, s.tenant), coalesce(s.byte_days, 0), coalesce(p.egress, 0),
        coalesce(p.requests, 0)
    from stored s
    full join pulled p on p.tenant_id = s.tenant_id
    left join tenants t on t.id = coalesce(s.tenant_id, p.tenant_id)
    order by 1;
end;
comment on function report.chargeback(date) is 'The bill of a month, any of whose days is given: what was stored (bytes at the end of each day, added up), given out and asked, per tenant. Deleted tenants are on it too; the rows add up to the totals exactly.

select tenant, stored_byte_days / 30 / 1000000000.0 as average_gb, egress_bytes, requests
from report.chargeback(current_date);';
