"""Judging manifests reads what a repository's tags ever were once for all of them, however many are judged."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import psycopg
import pytest

from distsql.oci.digest import Digest
from distsql.sql.statements import registered
from tests.plans.looking import looks

MOVES: Final = 2_000
JUDGED: Final = 50


@pytest.mark.parametrize("name", ["judge_manifests", "judge_locked"])
def test_the_history_of_a_repository_is_read_once(sql: psycopg.Connection[tuple[Any, ...]], name: str) -> None:
    digests = [Digest.of(b"%d" % number).packed for number in range(MOVES + 1)]
    [(tenant,)] = sql.execute("insert into tenants (name, untagged) values ('acme', 'collect') returning id").fetchall()
    [(repository,)] = sql.execute(
        "insert into repositories (tenant_id, path) values (%s, 'web') returning id", [tenant]
    ).fetchall()
    place = {"tenant": tenant, "repository": repository, "digests": digests}
    sql.execute(
        "insert into manifests (tenant_id, repository_id, digest, media_type, length, payload, pushed_by) "
        "select %(tenant)s, %(repository)s, digest, 'text/plain', 1, 'x', 'ann' "
        "from unnest(%(digests)s::bytea[]) digest",
        place,
    )
    sql.execute(
        "insert into tags (tenant_id, repository_id, name, digest, valid_from, valid_to, actor) "
        "select %(tenant)s, %(repository)s, 'latest', digest, now() - interval '1 day' + at * interval '1 second', "
        "now() - interval '1 day' + (at + 1) * interval '1 second', 'ann' "
        "from unnest(%(digests)s::bytea[]) with ordinality as moved (digest, at)",
        place,
    )
    sql.execute("analyze tags, manifests")
    values = {
        "tenant_ids": [tenant] * JUDGED,
        "repository_ids": [repository] * JUDGED,
        "digests": digests[:JUDGED],
        "subject_digests": [None] * JUDGED,
        "restore_period": timedelta(days=7),
    }
    given = [values[each] for each in registered[name].order]
    assert MOVES <= looks(sql, name, *given, table="tags") <= 2 * MOVES
    with psycopg.ClientCursor(sql, row_factory=psycopg.rows.dict_row) as cursor:
        rows = cursor.execute(registered[name].sql, values).fetchall()
    assert {row["digest"]: row["untagged_at"] for row in rows} == dict(
        sql.execute("select digest, valid_to from tags where digest = any(%s)", [digests[:JUDGED]]).fetchall()
    )
