"""Adding pulls up looks at each thing a few times, however many repositories a batch is of: never at all with all."""

from __future__ import annotations

from typing import Any, Final

import psycopg
import pytest

from distsql.oci.digest import Digest
from distsql.registry.context import Backend
from distsql.registry.pulls import Pulls
from tests.plans.looking import looks

Sql = psycopg.Connection[tuple[Any, ...]]

REPOSITORIES: Final = 200
_TAGS: Final = ("v1", "v2", None)
_MOST_LOOKS: Final = 20
"""At a thing that was asked for: it is unpacked, grouped, sorted, looked for in its table, and inserted or updated."""


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
