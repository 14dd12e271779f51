"""`python -m benchmarks.reports`: how long reports take on a large catalogue, by EXPLAIN ANALYZE, and what they read.

Makes a database of its own (whose user has to be a superuser: foreign keys aren't checked while it is filled), asks
the example of each report as an auditor and as a tenant's own role, and drops it.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import make_folder
from benchmarks.large_catalogue import be_careless, filled_catalogue
from benchmarks.population import Connection
from distsql.embedded import PrivatePostgres

BAR_MS: Final = 100
# What may take its time: everything is added up.
UNBARRED: Final = {"tenant_usage", "repository_usage", "media_types", "chargeback"}


class Cost(NamedTuple):
    """Of one question: milliseconds by EXPLAIN ANALYZE, rows, pages, and tables that were read from end to end."""

    milliseconds: float
    rows: int
    pages: int
    read_whole: tuple[str, ...]


def examples(owner: Connection) -> dict[str, str]:
    """Of each report, as docs/reports.md has it."""
    found = owner.execute(
        "select relname::text, obj_description(oid, 'pg_class') from pg_class "
        "where relnamespace = 'report'::regnamespace and relkind = 'v' union all "
        "select proname::text, obj_description(oid, 'pg_proc') from pg_proc "
        "where pronamespace = 'report'::regnamespace and proretset"
    ).fetchall()
    return {name: comment.split("\n\n", 1)[1] for name, comment in sorted(found)}


def ask(connection: Connection, question: str) -> Cost:
    """The second time that it is asked: what the first one read from the disk isn't a report's doing."""
    for _ in range(2):
        [(plan,)] = connection.execute(f"explain (analyze, buffers, format json) {question}").fetchall()
    top = (plan if isinstance(plan, list) else json.loads(plan))[0]
    return Cost(
        top["Planning Time"] + top["Execution Time"],
        top["Plan"]["Actual Rows"],
        top["Plan"]["Shared Hit Blocks"] + top["Plan"]["Shared Read Blocks"],
        tuple(sorted(set(_scanned(top["Plan"])))),
    )


def _scanned(plan: Mapping[str, Any]) -> Iterator[str]:
    if plan["Node Type"] == "Seq Scan" and plan.get("Actual Loops") and "Relation Name" in plan:
        yield str(plan["Relation Name"])
    for part in plan.get("Plans", ()):
        yield from _scanned(part)


def measure(url: str) -> dict[tuple[str, str], Cost]:
    """Every report's example, as both who may ask."""
    costs = {}
    role = f"bench_reader_{secrets.token_hex(4)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set jit = off; set max_parallel_workers_per_gather = 0")
        questions = examples(connection)
        connection.execute("select make_sql_role(%s, 'x', 60000)", [role])
        connection.execute("insert into sql_roles (tenant_id, role_name) values (1, %s)", [role])
        try:
            for who in ("distsql_auditor", role):
                connection.execute(sql.SQL("set role {}").format(sql.Identifier(who)))
                for name, question in questions.items():
                    costs[name, "auditor" if who == "distsql_auditor" else "tenant"] = ask(connection, question)
                connection.execute("reset role")
        finally:
            connection.execute("reset role")
            connection.execute("select drop_sql_role(%s)", [role])
    return costs


@contextmanager
def _asked(given: argparse.Namespace) -> Iterator[str]:
    """The URL of what is asked: what is there already, or made now, on a private PostgreSQL unless told otherwise."""
    sizes = {"manifests": given.manifests, "events": given.events, "keep": given.keep}
    if given.filled:
        yield given.filled
    elif given.database_url:
        with filled_catalogue(given.database_url, **sizes) as url:
            yield url
    else:
        with make_folder() as folder, PrivatePostgres(folder) as postgres:
            be_careless(postgres.url(folder))
            with filled_catalogue(postgres.url(folder), **sizes) as url:
                yield url


def main() -> int:
    """1 when a report that has a bar takes longer than it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", help="of a superuser; a private PostgreSQL is made unless given")
    parser.add_argument("--manifests", type=int, default=1_000_000, help="with five descriptors each")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--keep", action="store_true", help="leave the database on the server of --database-url")
    parser.add_argument("--filled", metavar="URL", help="ask one that was left")
    given = parser.parse_args()
    with _asked(given) as url:
        print(url, file=sys.stderr)
        costs = measure(url)
    table = Table("report", "asked by", "ms", "rows", "pages", "read from end to end")
    for (name, who), cost in sorted(costs.items()):
        shown = f"{cost.milliseconds:.1f}" + (" (over)" if _is_over(name, cost) else "")
        table.add_row(name, who, shown, str(cost.rows), str(cost.pages), ", ".join(cost.read_whole))
    Console(width=140).print(table)
    return int(any(_is_over(name, cost) for (name, _), cost in costs.items()))


def _is_over(name: str, cost: Cost) -> bool:
    return name not in UNBARRED and cost.milliseconds > BAR_MS


if __name__ == "__main__":
    sys.exit(main())
