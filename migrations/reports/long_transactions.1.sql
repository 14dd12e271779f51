-- With the owner's rights: PostgreSQL shows how long a session's transaction lasts to its own user only.
create function long_transactions(out open bigint, out seconds bigint) language sql stable security definer
set search_path = pg_catalog, public, pg_temp
as $$
    select count(*), coalesce(floor(extract(epoch from max(clock_timestamp() - a.xact_start))), 0)::bigint
    from pg_stat_activity a where a.datname = current_database() and a.xact_start is not null and a.pid <> pg_backend_pid()
$$;
comment on function long_transactions() is 'How many transactions of the registry are open, and for how long the oldest has been: nothing else about them.';
