create view report.schema_health with (security_invoker = true) as
select 'partition ' || name as item, case when to_regclass(name) is null then 'missing' else 'ok' end as status,
    case when to_regclass(name) is null then 'run distsql migrate' else 'ready' end as detail
from (
    select 'audit_events_' || to_char(month, 'YYYY_MM') as name
    from generate_series(
        date_trunc('month', now() at time zone 'UTC'), date_trunc('month', now() at time zone 'UTC') + interval '2 months',
        interval '1 month'
    ) month
) expected
union all
select 'index ' || c.relname,
    case when not i.indisvalid then 'invalid' when coalesce(s.idx_scan, 0) = 0 and not i.indisunique then 'unused' else 'ok' end,
    format('%s scans, %s bytes', coalesce(s.idx_scan, 0), pg_relation_size(c.oid))
from pg_index i
join pg_class c on c.oid = i.indexrelid and c.relnamespace = 'public'::regnamespace and not c.relispartition
    and c.relkind = 'i'
left join pg_stat_all_indexes s on s.indexrelid = i.indexrelid
union all
select 'table ' || s.relname,
    case when s.n_dead_tup > 10000 and s.n_dead_tup > s.n_live_tup / 5 then 'bloated' else 'ok' end,
    format('%s live rows, %s dead, vacuumed %s', s.n_live_tup, s.n_dead_tup,
        coalesce(greatest(s.last_vacuum, s.last_autovacuum)::text, 'never'))
from pg_stat_all_tables s
where s.schemaname = 'public'
union all
select 'sequence ' || s.sequencename,
    case when s.last_value is null then 'unknown' when s.last_value > s.max_value / 2 then 'running out' else 'ok' end,
    case when s.last_value is null then 'not used yet, or not shown to this role'
        else format('%s of %s', s.last_value, s.max_value) end
from pg_sequences s
where s.schemaname = 'public'
union all
select 'transactions', case when l.seconds > 3600 then 'long' else 'ok' end,
    format('%s open, the oldest for %s s', l.open, l.seconds)
from long_transactions() l;
comment on view report.schema_health is 'Whether the catalogue is well: partitions made ahead, indexes used and valid, dead rows, ids left, long transactions.

select item, status, detail from report.schema_health where status not in (''ok'', ''unused'');';
comment on column report.schema_health.item is 'What was looked at: a partition, index, table, sequence, or all transactions.';
comment on column report.schema_health.status is 'ok, or what is wrong: missing, invalid, unused, bloated, running out, long; unknown.';
comment on column report.schema_health.detail is 'The figures behind it.';
