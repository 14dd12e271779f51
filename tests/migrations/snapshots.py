"""What is in a database: all rows, and the shape of the schema."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

Rows = dict[str, list[tuple[Any, ...]]]


def rows(url: str) -> Rows:
    """Every table's rows as JSON, in order; partitions within their table."""
    with psycopg.connect(url, autocommit=True) as connection:
        return rows_over(connection)


def rows_over(connection: psycopg.Connection[Any]) -> Rows:
    """The same over a connection that is there: a new one takes longer to learn of the tables than to read them.

    Without what the audit has of migrations: each way there is another one.
    """
    names = connection.execute(
        "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') "
        "and not relispartition order by 1"
    ).fetchall()
    return {
        name: connection.execute(
            sql.SQL("select to_jsonb(t)::text from {} t {} order by 1").format(
                sql.Identifier(name), sql.SQL("where action not like 'schema.%'" if name == "audit_events" else "")
            )
        ).fetchall()
        for (name,) in names
    }


_SHAPE = {
    "columns": """
        select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, l.collname,
            a.attidentity::text, a.attgenerated::text, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        left join pg_collation l on l.oid = a.attcollation
        where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p') {here} order by 1, 2""",
    "constraints": """
        select c.relname, k.conname, pg_get_constraintdef(k.oid), k.condeferrable
        from pg_constraint k join pg_class c on c.oid = k.conrelid
        where k.contype <> 'n' {here} order by 1, 2""",
    "indexes": """
        select c.relname, i.relname, pg_get_indexdef(i.oid)
        from pg_index x join pg_class c on c.oid = x.indrelid join pg_class i on i.oid = x.indexrelid
        where true {here} order by 1, 2""",
    "tables": """
        select c.relname, c.relkind::text, pg_get_partkeydef(c.oid), obj_description(c.oid, 'pg_class')
        from pg_class c where c.relkind in ('r', 'p', 'v', 'm', 'S') {here} order by 1""",
    "storage": """
        select c.relname, c.reloptions::text from pg_class c
        where c.relkind = 'r' and c.reloptions is not null {here} order by 1""",
    "row-level security": """
        select c.relname, c.relrowsecurity, c.relforcerowsecurity, p.polname, p.polcmd::text,
            p.polroles::regrole[]::text, pg_get_expr(p.polqual, c.oid), pg_get_expr(p.polwithcheck, c.oid)
        from pg_class c left join pg_policy p on p.polrelid = c.oid
        where c.relkind in ('r', 'p') {here} order by 1, 4""",
    "rights": """
        select c.relname, a.name, a.grantee::regrole::text, a.privilege_type, a.is_grantable
        from pg_class c cross join lateral (
            select null::text as name, r.* from aclexplode(c.relacl) r union all
            select t.attname::text, r.* from pg_attribute t cross join lateral aclexplode(t.attacl) r
            where t.attrelid = c.oid
        ) a where a.grantee <> c.relowner {here}
        order by 1, 2, 3, 4""",
    "reports": """
        select c.relname, pg_get_viewdef(c.oid), c.reloptions::text, c.relacl::text, obj_description(c.oid, 'pg_class'),
            array(select col_description(c.oid, a.attnum) from pg_attribute a where a.attrelid = c.oid order by attnum)
        from pg_class c where c.relnamespace = to_regnamespace('report') and c.relkind = 'v' order by 1""",
    "functions": """
        select p.pronamespace::regnamespace::text, p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.proacl::text,
            obj_description(p.oid, 'pg_proc')
        from pg_proc p where p.pronamespace in ('public'::regnamespace, to_regnamespace('report')) order by 1, 2""",
}
_HERE = "and c.relnamespace = 'public'::regnamespace and not c.relispartition and c.relname <> 'alembic_version'"


def shape(url: str) -> Rows:
    """Columns, constraints, indexes and tables, as PostgreSQL tells them; not the partitions, and not alembic's own."""
    with psycopg.connect(url, autocommit=True) as connection:
        return {kind: connection.execute(query.format(here=_HERE)).fetchall() for kind, query in _SHAPE.items()}


def everything(url: str) -> list[tuple[Any, ...]]:
    """Whatever is in the schema but alembic's own table: nothing, after a downgrade to the base."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(
            "select relname::text, relkind::text from pg_class where relnamespace = 'public'::regnamespace "
            "and relname not like 'alembic_version%' union all "
            "select proname::text, 'function' from pg_proc where pronamespace = 'public'::regnamespace union all "
            "select typname::text, 'type' from pg_type "
            "where typnamespace = 'public'::regnamespace and typname not like '%alembic_version' union all "
            "select nspname::text, 'schema' from pg_namespace "
            "where nspname !~ '^pg_' and nspname not in ('public', 'information_schema')"
        ).fetchall()
