-- The role that dashboards read with (Grafana, Metabase ...): it sees every tenant's reports, no secrets, and changes
-- nothing. Run by psql as the catalogue's owner, with the password in REPORTS_PASSWORD; again, it sets the password anew.
\set ON_ERROR_STOP on
\getenv password REPORTS_PASSWORD
select 'create role distsql_reports login connection limit 20 in role distsql_auditor'
where not exists (select from pg_roles where rolname = 'distsql_reports') \gexec
select format('alter role distsql_reports password %L', :'password') \gexec
alter role distsql_reports set search_path = report;
alter role distsql_reports set statement_timeout = '30s';
alter role distsql_reports set default_transaction_read_only = on;
