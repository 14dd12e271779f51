"""At how many rows a statement looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg

from distsql.sql import docs
from distsql.sql.statements import registered

Sql = psycopg.Connection[tuple[Any, ...]]

docs.load_statements()


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def looks(sql: Sql, name: str, *values: object, table: str | None = None) -> float:
    """At how many rows all steps of the statement look together, with the plan that servers use.

    Not at those of the tables that aren't wanted: PostgreSQL may walk over one as small as here. Of one ``table`` all.
    """
    forms = registered[name].forms
    assert forms is not None
    [(types,)] = sql.execute(
        "select string_agg(format_type(oid, null), ', ' order by place) "
        "from unnest(%s::oid[]) with ordinality as given (oid, place)",
        [list(forms.types)],
    ).fetchall()
    with psycopg.ClientCursor(sql) as cursor:
        cursor.execute("set plan_cache_mode = force_generic_plan")
        cursor.execute(b"prepare looking (%b) as " % types.encode() + registered[name].numbered_sql)
        places = ", ".join(["%s"] * len(values))
        cursor.execute(f"explain (analyze, format json) execute looking ({places})", values)
        [(explained,)] = cursor.fetchall()
        cursor.execute("deallocate looking")
    all_nodes = list(nodes(explained[0]["Plan"]))
    if table is None:
        return sum(_looks_of(node, all_rows="Relation Name" not in node) for node in all_nodes)
    return sum(_looks_of(node, all_rows=True) for node in all_nodes if node.get("Relation Name") == table)


def _looks_of(node: Mapping[str, Any], *, all_rows: bool) -> float:
    left_out = ("Rows Removed by Join Filter", *(("Rows Removed by Filter",) if all_rows else ()))
    return float((node["Actual Rows"] + sum(node.get(each, 0) for each in left_out)) * node["Actual Loops"])
