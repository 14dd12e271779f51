"""What has to be true in PostgreSQL's catalogue so that nobody's bug shows one tenant another's data.

Each rule is a query that gives the names of what breaks it. They ask about everything that there is outside of
PostgreSQL's own schemas, so that what comes later is asked about too.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

from distsql.sql.database import SERVE_ROLE

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
_POLICIES: Final = f"""
    select t.oid, p.polname, p.polpermissive and p.polcmd = '*' and p.polwithcheck is null and case p.polname
        when 'tenant' then p.polroles = array['{SERVE_ROLE}'::regrole::oid]
            and pg_get_expr(p.polqual, t.oid) = format('{_IS_THE_TENANT}', t.tenant)
        when 'owner' then p.polroles = array[t.relowner] and pg_get_expr(p.polqual, t.oid) = 'true'
        else false end as as_it_should_be
    from tables t join pg_policy p on p.polrelid = t.oid
"""
_RIGHTS: Final = f"""
    select c.oid, c.relname, c.relispartition, a.grantee, a.privilege_type, a.is_grantable, c.relowner as owner
    from pg_class c
    cross join lateral (
        select * from aclexplode(c.relacl)
        union all
        select e.* from pg_attribute t cross join lateral aclexplode(t.attacl) e where t.attrelid = c.oid
    ) a
    where c.relnamespace in {_OURS} and a.grantee <> c.relowner
"""
_KEY: Final = """(
    select array_agg(a.attname::text order by k.at) from unnest({key}::int[]) with ordinality k (attnum, at)
    join pg_attribute a on a.attrelid = {table} and a.attnum = k.attnum
)"""

RULES: Final[dict[str, str]] = {
    "row-level security is on and forced for every table": "select relname from tables where not forced",
    "every table has the two policies, for all commands, and no other": """
        select t.relname from tables t left join policies p on p.oid = t.oid
        group by t.relname having count(p.oid) <> 2 or not bool_and(p.as_it_should_be)
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
    "only the serving role has rights beside the owner, and can't pass them on": f"""
        select relname from rights where grantee <> '{SERVE_ROLE}'::regrole or is_grantable
    """,
    "nobody has a right on a partition": "select relname from rights where relispartition",
    "the audit can only be added to": """
        select relname from rights where relname = 'audit_events' and privilege_type <> 'INSERT'
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
            select from aclexplode(proacl) where grantee not in (proowner, '{SERVE_ROLE}'::regrole)
        ))
    """,
    "nobody but the owner makes anything": f"""
        select nspname from pg_namespace where oid in {_OURS} and has_schema_privilege('{SERVE_ROLE}', oid, 'create')
    """,
    "the serving role has no power of its own": f"""
        select rolname from pg_roles where rolname = '{SERVE_ROLE}'
        and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication or rolcanlogin)
    """,
    "the serving role has nobody else's power": f"""
        select roleid::regrole::text from pg_auth_members where member = '{SERVE_ROLE}'::regrole
    """,
    "the serving role owns nothing": f"""
        select classid::regclass::text from pg_shdepend where refobjid = '{SERVE_ROLE}'::regrole and deptype = 'o'
    """,
}


def what_breaks(catalogue: Catalogue, rule: str) -> list[str]:
    """The names of what breaks the rule."""
    query = f"with tables as ({_TABLES}), policies as ({_POLICIES}), rights as ({_RIGHTS}) {RULES[rule]}"
    return sorted({name for (name,) in catalogue.execute(query)})
