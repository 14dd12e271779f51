"""What has to be true in PostgreSQL's catalogue so that nobody's bug shows one tenant another's data.

Each rule is a query that gives the names of what breaks it. They ask about everything that there is outside of
PostgreSQL's own schemas, so that what comes later is asked about too.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

from distsql.sql.database import SERVE_ROLE
from distsql.sql.sql_roles import AUDITOR_ROLE, READER_ROLE

Catalogue = psycopg.Connection[tuple[Any, ...]]

_OURS: Final = "(select oid from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema')"
# Alembic's own table says which revision it is, which is no secret.
_TABLES: Final = f"""
    select oid, relname, relowner, relrowsecurity and relforcerowsecurity as forced,
        case relname when 'tenants' then 'id' else 'tenant_id' end as tenant
    from pg_class
    where relnamespace in {_OURS} and relkind in ('r', 'p') and not relispartition and relname <> 'alembic_version'
"""
# As PostgreSQL writes it out.
_IS_THE_TENANT: Final = "(%s = (NULLIF(current_setting(''app.tenant_id''::text, true), ''''::text))::bigint)"
_IS_MINE: Final = (
    "(%s = ( SELECT r.tenant_id FROM sql_roles r "
    "WHERE ((r.role_name = (CURRENT_USER)::text) AND (r.closed_at IS NULL))))"
)
_POLICIES: Final = f"""
    select t.oid, p.polname::text, p.polpermissive and p.polwithcheck is null and case p.polname
        when 'tenant' then p.polroles = array['{SERVE_ROLE}'::regrole::oid] and p.polcmd = '*'
            and q.qual = format('{_IS_THE_TENANT}', t.tenant)
        when 'owner' then p.polroles = array[t.relowner] and p.polcmd = '*' and q.qual = 'true'
        when 'auditor' then p.polroles = array['{AUDITOR_ROLE}'::regrole::oid] and p.polcmd = 'r' and q.qual = 'true'
        when 'reader' then p.polroles = array['{READER_ROLE}'::regrole::oid] and p.polcmd = 'r'
            and q.qual = case t.relname
                when 'sql_roles' then '(role_name = (CURRENT_USER)::text)' else format('{_IS_MINE}', t.tenant) end
        else false end as as_it_should_be
    from tables t join pg_policy p on p.polrelid = t.oid
    cross join lateral (select regexp_replace(pg_get_expr(p.polqual, t.oid), '\\s+', ' ', 'g') as qual) q
"""
_RIGHTS: Final = f"""
    select c.oid, c.relname, c.relkind, c.relispartition, a.attname, a.grantee, a.privilege_type, a.is_grantable
    from pg_class c
    cross join lateral (
        select null::text as attname, r.* from aclexplode(c.relacl) r
        union all
        select t.attname, e.* from pg_attribute t cross join lateral aclexplode(t.attacl) e where t.attrelid = c.oid
    ) a
    where c.relnamespace in {_OURS} and a.grantee <> c.relowner
"""
_READERS: Final = f"'{AUDITOR_ROLE}'::regrole, '{READER_ROLE}'::regrole"
_OUR_ROLES: Final = f"'{SERVE_ROLE}'::regrole, {_READERS}"
# What PostgreSQL's own views, or another tenant's rows, would have to be read for: figures that are nobody's secret.
_TOLD_BY_THE_OWNER: Final = "('long_transactions', 'collection_periods')"
# What nobody reads in SQL but the owner, whatever table it may be in one day.
_SECRET: Final = "secret|password|private|payload|store_key|store_state"
_KEY: Final = """(
    select array_agg(a.attname::text order by k.at) from unnest({key}::int[]) with ordinality k (attnum, at)
    join pg_attribute a on a.attrelid = {table} and a.attnum = k.attnum
)"""

RULES: Final[dict[str, str]] = {
    "row-level security is on and forced for every table": "select relname from tables where not forced",
    "every table has the policies that it should, and no other": """
        select t.relname from tables t left join policies p on p.oid = t.oid
        group by t.relname
        having count(p.oid) filter (where p.polname in ('tenant', 'owner')) <> 2 or not bool_and(p.as_it_should_be)
    """,
    "every unique key begins with the tenant": f"""
        select i.indexrelid::regclass::text from pg_index i join tables t on t.oid = i.indrelid
        where i.indisunique and t.relname <> 'tenants'
        and {_KEY.format(key="i.indkey[0:0]", table="t.oid")} is distinct from array['tenant_id']
    """,
    "no foreign key reaches across tenants": f"""
        select f.conname from pg_constraint f join tables t on t.oid = f.conrelid join tables o on o.oid = f.confrelid
        where f.contype = 'f' and (
            {_KEY.format(key="f.conkey[:1]", table="t.oid")} <> array['tenant_id']
            or {_KEY.format(key="f.confkey[:1]", table="o.oid")} <> array[o.tenant]
        )
    """,
    "nobody else has rights, and nobody can pass them on": f"""
        select relname from rights where grantee not in ({_OUR_ROLES}) or is_grantable
    """,
    "who reads reports only reads": f"""
        select relname from rights where grantee in ({_READERS}) and privilege_type <> 'SELECT'
    """,
    "of tables, who reads reports sees column by column, and no secrets": f"""
        select relname from rights where grantee in ({_READERS}) and relkind <> 'v'
        and (attname is null or attname ~ '{_SECRET}')
    """,
    "where who reads reports has a right, a policy says which rows": f"""
        select relname from rights r where relkind <> 'v' and grantee in ({_READERS}) and not exists (
            select from pg_policy p where p.polrelid = r.oid and p.polroles = array[r.grantee]
        )
    """,
    "reports are for who reads reports": f"""
        select relname from rights where relkind = 'v' and grantee not in ({_READERS})
    """,
    "nobody has a right on a partition": "select relname from rights where relispartition",
    "the audit can only be added to": f"""
        select relname from rights
        where relname = 'audit_events' and grantee = '{SERVE_ROLE}'::regrole and privilege_type <> 'INSERT'
    """,
    "nobody may empty a table past its policies, or look through a foreign key": """
        select relname from rights where privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')
    """,
    "no rights come by themselves": "select defaclobjtype::text from pg_default_acl",
    "views look with the eyes of who asks": f"""
        select relname from pg_class where relnamespace in {_OURS} and relkind = 'v'
        and not coalesce(reloptions && array['security_invoker=true', 'security_invoker=on'], false)
    """,
    "there is nothing that policies don't hold for": f"""
        select relname from pg_class where relnamespace in {_OURS} and relkind in ('m', 'f')
    """,
    "functions with the owner's rights look nowhere else": f"""
        select proname from pg_proc where pronamespace in {_OURS} and prosecdef
        and not coalesce('search_path=pg_catalog, public, pg_temp' = any (proconfig), false)
    """,
    "functions with the owner's rights are not for everybody": f"""
        select proname from pg_proc where pronamespace in {_OURS} and prosecdef
        and (proacl is null or exists (
            select from aclexplode(proacl) where grantee not in (proowner, {_OUR_ROLES})
        ))
    """,
    "only reports have functions for who reads reports": f"""
        select proname from pg_proc where pronamespace in {_OURS} and pronamespace::regnamespace::text <> 'report'
        and proname not in {_TOLD_BY_THE_OWNER}
        and exists (select from aclexplode(proacl) where grantee in ({_READERS}))
    """,
    "nobody but the owner makes anything": f"""
        select nspname from pg_namespace cross join unnest(array[{_OUR_ROLES}]) role
        where pg_namespace.oid in {_OURS} and has_schema_privilege(role, pg_namespace.oid, 'create')
    """,
    "our roles have no power of their own": f"""
        select rolname from pg_roles where oid in ({_OUR_ROLES})
        and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication or rolcanlogin)
    """,
    "our roles have nobody else's power": f"""
        select roleid::regrole::text from pg_auth_members where member in ({_OUR_ROLES})
    """,
    "our roles own nothing": f"""
        select classid::regclass::text from pg_shdepend where refobjid in ({_OUR_ROLES}) and deptype = 'o'
    """,
    "a tenant's own role has no power but to read": f"""
        select m.member::regrole::text from pg_auth_members m join pg_roles r on r.oid = m.member
        where m.roleid = '{READER_ROLE}'::regrole and r.rolname <> current_user and (
            r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolcreatedb or r.rolreplication or m.admin_option
            or exists (select from pg_auth_members o where o.member = m.member and o.roleid <> m.roleid)
        )
    """,
}


def what_breaks(catalogue: Catalogue, rule: str) -> list[str]:
    """The names of what breaks the rule."""
    query = f"with tables as ({_TABLES}), policies as ({_POLICIES}), rights as ({_RIGHTS}) {RULES[rule]}"
    return sorted({name for (name,) in catalogue.execute(query)})
