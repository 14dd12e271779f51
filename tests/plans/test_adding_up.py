"""Adding pulls up looks at each thing a few times, however many repositories a batch is of: never at all with all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import psycopg
import pytest

from distsql.oci.digest import Digest
from distsql.registry.context import Backend
from distsql.registry.pulls import Pulls
from distsql.sql import docs
from distsql.sql.statements import registered

Sql = psycopg.Connection[tuple[Any, ...]]

docs.load_statements()

REPOSITORIES: Final = 200
_TAGS: Final = ("v1", "v2", None)
_MOST_LOOKS: Final = 20
"""At a thing that was asked for: it is unpacked, grouped, sorted, looked for in its table, and inserted or updated."""


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def looks(sql: Sql, name: str, ids: list[int]) -> float:
    """At how many rows all steps of the statement look together, with the plan that servers use.

    Not at those of the tables that aren't wanted: PostgreSQL may walk over one as small as here.
    """
    with psycopg.ClientCursor(sql) as cursor:
        cursor.execute("set plan_cache_mode = force_generic_plan")
        cursor.execute(b"prepare adding as " + registered[name].numbered_sql)
        cursor.execute("explain (analyze, format json) execute adding (%s)", [ids])
        [(explained,)] = cursor.fetchall()
        cursor.execute("deallocate adding")
    return float(sum(map(_looks_of, nodes(explained[0]["Plan"]))))


def _looks_of(node: Mapping[str, Any]) -> float:
    left_out = ("Rows Removed by Join Filter", *(() if "Relation Name" in node else ("Rows Removed by Filter",)))
    return float((node["Actual Rows"] + sum(node.get(each, 0) for each in left_out)) * node["Actual Loops"])


@pytest.mark.parametrize("name", ["add_daily_pulls", "add_manifest_pulls", "add_tag_pulls"])
async def test_many_repositories_are_each_looked_at_a_few_times(backend: Backend, sql: Sql, name: str) -> None:
    digest = Digest.of(b"manifest")
    sql.execute("insert into tenants (name) select 'tenant-' || n from generate_series(1, %s) n", [REPOSITORIES])
    sql.execute("insert into repositories (tenant_id, path) select id, 'web' from tenants where name like 'tenant-%'")
    sql.execute(
        "insert into manifests (tenant_id, repository_id, digest, media_type, length, payload, pushed_by) "
        "select tenant_id, id, %s, 'text/plain', 1, 'x', 'ann' from repositories",
        [digest.packed],
    )
    pulls = Pulls(backend.everything, interval_s=60)
    for number in range(1, REPOSITORIES + 1):
        for tag in _TAGS:
            pulls.add(f"tenant-{number}/web", "account", tag, digest, 1, 1, 0)
    await pulls.flush()
    ids = [row[0] for row in sql.execute("select id from pull_batches")]
    things = REPOSITORIES * len(_TAGS)
    for _ in range(2):  # when they are new, and when they are there
        assert looks(sql, name, ids) <= _MOST_LOOKS * things
    [(added,)] = sql.execute(f"select sum(pulls) from {name.removeprefix('add_')}").fetchall()
    assert added == 2 * REPOSITORIES * (len(_TAGS) - (name == "add_tag_pulls"))
