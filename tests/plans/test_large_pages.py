"""Pages of very long listings touch what they show, at any depth: 10,000 referrers of one subject, many tags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import psycopg
import pytest

from distsql.sql import docs
from distsql.sql.statements import registered
from tests import postgres
from tests.plans.crowd import Connection, working_as
from tests.sql.rows import digest

docs.load_statements()

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("large pages")]

REFERRERS: Final = 10_000
TAGS: Final = 100_000
TENANT_ID: Final = 1
WEB: Final = {"tenant": "big", "path": "web", "only_id": None, "paths": ["web"], "only_ids": [None]}
# Rows whose commit was not waited for can't be marked as visible to all, and index-only scans look at each.
_FILL: Final = f"""
set session_replication_role = replica;
set synchronous_commit = on;
create function pg_temp.digest(text) returns bytea language sql immutable
    return '\\x01'::bytea || sha256(convert_to($1, 'UTF8'));
insert into tenants (id, name) values (1, 'big');
insert into repositories (tenant_id, id, path) values (1, 1, 'web');
insert into manifests
        (tenant_id, repository_id, digest, media_type, artifact_type, subject_digest, length, payload, pushed_by)
    select 1, 1, pg_temp.digest('manifest ' || n), 'text/x-manifest', 'text/x-' || n % 9, pg_temp.digest('subject'),
        500, convert_to(repeat('x', 500), 'UTF8'), 'ann'
    from generate_series(1, {REFERRERS}) n;
insert into descriptors
        (tenant_id, repository_id, manifest_digest, position, role, media_type, length, digest, required)
    select 1, 1, pg_temp.digest('manifest ' || n), 0, 'subject', 'text/plain', n, pg_temp.digest('subject'), false
    from generate_series(1, {REFERRERS}) n;
insert into annotations (tenant_id, repository_id, manifest_digest, key, value)
    select 1, 1, pg_temp.digest('manifest ' || n), 'title', 'number ' || n from generate_series(1, {REFERRERS}) n;
insert into tags (tenant_id, repository_id, name, digest, valid_from, actor)
    select 1, 1, 'v' || n, pg_temp.digest('manifest ' || 1 + n % {REFERRERS}), now(), 'ann'
    from generate_series(1, {TAGS}) n;
vacuum analyze;
"""


@pytest.fixture(scope="module")
def listings(postgres_server: str, template_database: str) -> Iterator[Connection]:
    with (
        postgres.new_database(postgres_server, template=template_database) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        for statement in _FILL.split(";\n"):
            connection.execute(statement)
        yield connection


def page(connection: Connection, name: str, **parameters: Any) -> tuple[int, int]:
    """How many pages of PostgreSQL's the statement touches, and how many rows it shows.

    EXPLAIN of an EXECUTE shows the plan that runs in production, which is made for unknown parameters (database.py);
    EXPLAIN of the statement itself would be planned for these.
    """
    statement = registered[name]
    values = [{**WEB, **parameters}[each] for each in statement.order]
    places = ", ".join(["%s"] * len(values))
    with working_as(connection, name, tenant_id=TENANT_ID), psycopg.ClientCursor(connection) as cursor:
        cursor.execute("set local plan_cache_mode = force_generic_plan")
        cursor.execute(b"prepare page as " + statement.numbered_sql)
        cursor.execute(f"explain (analyze, buffers, format json) execute page ({places})", values)
        [(explained,)] = cursor.fetchall()
        cursor.execute("deallocate page")
    root = explained[0]["Plan"]
    return int(root["Shared Hit Blocks"] + root["Shared Read Blocks"]), int(root["Actual Rows"])


@pytest.mark.parametrize("after", [b"", b"\x01\x40", b"\x01\xc0", b"\x01\xfe"], ids=bytes.hex)
@pytest.mark.parametrize(("artifact_type", "factor"), [(None, 1), ("text/x-1", 9)], ids=["all", "filtered"])
def test_a_page_of_referrers_costs_the_same_at_any_depth(
    listings: Connection, after: bytes, artifact_type: str | None, factor: int
) -> None:
    """4.2 for each of 10,000 that is shown its reference, manifest and annotations; none that comes before."""
    parameters = {"digest": digest("subject").packed, "fallback_tag": "x", "artifact_type": artifact_type, "limit": 26}
    pages, rows = page(listings, "list_referrers", after=after, **parameters)
    assert rows == 26 or after > b"\x01\xf0"
    # Two lookups for each one that is passed (factor), an index of some levels for each one that is shown.
    assert pages <= 26 * (3 * factor + 6) + 50


@pytest.mark.parametrize("after", ["", "v5", "v99", "v99999"])
def test_a_page_of_tags_costs_the_same_at_any_depth(listings: Connection, after: str) -> None:
    """4.1 of 100,000 tags: one index range, without a look at what lies before."""
    pages, _ = page(listings, "list_tags", afters=[after], sizes=[1001])
    assert pages >= 4
    assert pages <= 60
