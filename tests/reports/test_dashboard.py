"""docs/grafana: the role that dashboards read with, and that every query of the dashboard runs as it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from distsql.api import metrics, scrapes
from distsql.embedded.binaries import find_binaries
from tests.reports.world import World

FOLDER = Path(__file__).parents[2] / "docs" / "grafana"
BOARD: dict[str, Any] = json.loads((FOLDER / "dashboards" / "distsql.json").read_text(encoding="utf-8"))
TARGETS = [(panel["title"], target) for panel in BOARD["panels"] for target in panel["targets"]]
QUERIES = {title: target["rawSql"] for title, target in TARGETS if "rawSql" in target}
EXPRESSIONS = {title: target["expr"] for title, target in TARGETS if "expr" in target}
PASSWORD = "it's a \\ secret"
Connection = psycopg.Connection[tuple[Any, ...]]


def as_grafana_sends_it(query: str) -> str:
    """With its macros and variables filled in."""
    query = query.replace("${tenant:sqlstring}", "'acme', 'rival'")
    return re.sub(r"\$__timeFilter\((\w+)\)", r"\1 between '2019-01-01T00:00:00Z' and '2100-01-01T00:00:00Z'", query)


@pytest.fixture(scope="module")
def dashboard(world: World) -> Iterator[Connection]:
    """Logged in as the role that role.sql makes; run twice, for it is run at each start."""
    psql = find_binaries().program("psql")
    for _ in range(2):
        subprocess.run(
            [psql, "--no-psqlrc", "--quiet", "--file", FOLDER / "role.sql", world.url],
            env={**os.environ, "REPORTS_PASSWORD": PASSWORD},
            check=True,
            capture_output=True,
        )
    try:
        url = make_conninfo(world.url, user="distsql_reports", password=PASSWORD)
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection
    finally:
        with psycopg.connect(world.url, autocommit=True) as owner:
            owner.execute("drop role distsql_reports")


@pytest.mark.parametrize("title", QUERIES)
def test_every_query_runs(dashboard: Connection, title: str) -> None:
    query = as_grafana_sends_it(QUERIES[title])
    assert "$" not in query
    found = dashboard.execute(query).fetchall()
    assert found or title == "Health of the schema"


def test_the_variable_names_tenants(dashboard: Connection) -> None:
    [variable] = BOARD["templating"]["list"]
    assert dashboard.execute(variable["query"]).fetchall() == [("acme",), ("rival",)]


def test_the_role_reads_reports_and_no_secrets(dashboard: Connection) -> None:
    assert dashboard.execute("select count(distinct tenant) from tag_history").fetchall() == [(2,)]
    dashboard.execute("set default_transaction_read_only = off")
    for statement in ("select secret_hash from public.accounts", "delete from public.tags", "create table x ()"):
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidSchemaName)):
            dashboard.execute(statement)


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_metrics_have_the_names_that_the_registry_gives_them(title: str) -> None:
    code = "".join(Path(module.__file__ or "").read_text(encoding="utf-8") for module in (metrics, scrapes))
    for name in re.findall(r"distsql_\w+", EXPRESSIONS[title]):
        stem = re.sub(r"_(total|bucket)$", "", name)
        assert f'"{stem}"' in code or stem.removeprefix("distsql_") in scrapes.HELP, name


def test_panels_have_sources_that_are_there() -> None:
    sources = (FOLDER / "provisioning" / "datasources" / "distsql.yaml").read_text(encoding="utf-8")
    for panel in BOARD["panels"]:
        assert f"uid: {panel['datasource']['uid']}\n" in sources
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
