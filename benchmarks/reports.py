"""`python -m benchmarks.reports`: how long reports take on a large catalogue, by EXPLAIN ANALYZE, and what they read.

Makes a database of its own on the server of --database-url (whose user has to be a superuser: foreign keys aren't
checked while it is filled), asks the example of each report as an auditor and as a tenant's own role, and drops it.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from rich.console import Console
from rich.table import Table

from distsql.sql import schema

Connection = psycopg.Connection[tuple[Any, ...]]

BAR_MS: Final = 100
# What may take its time: everything is added up.
UNBARRED: Final = {"tenant_usage", "repository_usage", "media_types", "chargeback"}
EMPTY: Final = "'\\x01'::bytea || sha256('')"
# Half of everything is of one tenant, acme, in 500 manifests for each repository; it asks about acme/web.
FILL: Final = (
    """
    create function h(kind text, a bigint, b bigint default 0) returns bytea language sql immutable parallel safe
    return '\\x01'::bytea || sha256(convert_to(kind || a || '-' || b, 'UTF8'))
    """,
    """
    create function tenant_of_repository(r bigint, n bigint) returns bigint language sql immutable parallel safe
    return case when r <= greatest(1, n / 2) then 1 else 2 + r % 99 end
    """,
    """
    insert into tenants (id, name) select n, case n when 1 then 'acme' else 'tenant-' || n end
    from generate_series(1, 100) n
    """,
    """
    insert into repositories (tenant_id, id, path) select tenant_of_repository(r, {repositories}), r,
    case r when 1 then 'web' else 'repository-' || r end from generate_series(1, {repositories}) r
    """,
    """
    insert into manifests (tenant_id, repository_id, digest, media_type, artifact_type, subject_digest, length, payload,
        pushed_at, pushed_by)
    select tenant_of_repository(r, {repositories}), r, h('m', i),
        case i / {repositories} % 100 when 1 then 'application/vnd.oci.image.index.v1+json'
            else 'application/vnd.oci.image.manifest.v1+json' end,
        case i / {repositories} % 10 when 5 then 'application/spdx+json' end,
        case i / {repositories} % 10 when 5 then h('m', i - {repositories}) end,
        2, '{{}}', now() - i * interval '20 seconds', 'acme/ci'
    from generate_series(1, {manifests}) i cross join lateral (select i % {repositories} + 1 as r) x
    """,
    # A config and four layers: one of 50 bases, one of its 20 frameworks, and two of its own. A base has one layer.
    """
    insert into descriptors (tenant_id, repository_id, manifest_digest, position, role, media_type, length, digest, os,
        architecture, required)
    select m.tenant_id, m.repository_id, m.digest, p, d.role, 'application/vnd.oci.image.layer.v1.tar+gzip', 1000 + p,
        d.digest, case d.role when 'manifest' then 'linux' end, case d.role when 'manifest' then 'arm64' end, true
    from (
        select tenant_of_repository(i % {repositories} + 1, {repositories}) as tenant_id,
            i % {repositories} + 1 as repository_id, h('m', i) as digest, i, i / {repositories} as n
        from generate_series(1, {manifests}) i
    ) m
    cross join generate_series(0, 4) p
    cross join lateral (
        select case when m.n % 100 = 1 then 'manifest' when p = 0 then 'config'
            when p = 4 and m.n % 10 = 5 then 'subject' else 'layer' end as role,
            case when m.n % 100 = 1 then h('m', m.i + (p + 1) * {repositories})
                when p = 0 then h('c', m.i)
                when p = 1 then h('base', m.n % 50)
                when p = 2 then case m.i % 1000 when 7 then {empty} else h('framework', m.n % 50, m.n % 20) end
                when p = 4 and m.n % 10 = 5 then h('m', m.i - {repositories})
                else h('l', m.i, p) end as digest
    ) d
    where m.n % 200 <> 8 or p < 2
    """,
    """
    insert into blobs (tenant_id, digest, length, store_key) select tenant_id, digest, min(length),
    'k' || encode(digest, 'hex') from descriptors where role in ('config', 'layer') group by 1, 2
    """,
    """
    insert into layers (tenant_id, repository_id, digest) select distinct tenant_id, repository_id, digest
    from descriptors where role in ('config', 'layer')
    """,
    """
    insert into tags (tenant_id, repository_id, name, digest, valid_from, actor)
    select tenant_of_repository(i % {repositories} + 1, {repositories}), i % {repositories} + 1,
        case i / {repositories} when 2 then 'latest' else 'v' || i end, h('m', i), now() - i * interval '20 seconds',
        'acme/ci'
    from generate_series(1, {manifests}) i where i / {repositories} % 2 = 0
    """,
    """
    insert into tags (tenant_id, repository_id, name, digest, valid_from, valid_to, actor, ended_by)
    select tenant_id, repository_id, name, h('m', n), valid_from - n * interval '1 day',
        valid_from - (n - 1) * interval '1 day', 'acme/ci', 'acme/ci'
    from tags cross join generate_series(1, 5) n where name = 'latest' or name like '%8'
    """,
    """
    insert into annotations (tenant_id, repository_id, manifest_digest, key, value) select tenant_id, repository_id,
    digest, 'org.opencontainers.image.revision', encode(substr(digest, 2, 20), 'hex') from manifests
    """,
    """
    insert into signing_manifests (tenant_id, repository_id, subject_digest, manifest_digest, kind) select tenant_id,
    repository_id, subject_digest, digest, 'referrer' from manifests where subject_digest is not null
    """,
    """
    insert into tag_pulls (tenant_id, repository_id, name, pulls, last_pulled_at) select tenant_id, repository_id, name,
    1, now() from tags where valid_to is null and repository_id % 3 > 0
    """,
    """
    insert into manifest_pulls (tenant_id, repository_id, digest, pulls, last_pulled_at) select tenant_id,
    repository_id, digest, 1, now() from manifests where repository_id % 3 > 0
    """,
    """
    insert into daily_pulls (tenant_id, day, repository_id, actor_kind, requests, pulls, sent_bytes) select tenant_id,
    current_date - d, id, 'robot', 10, 5, 1000 from repositories cross join generate_series(0, 89) d
    """,
    """
    insert into audit_events (tenant_id, at, id, actor, action, outcome, repository, reference, digest, request_id)
    select tenant_of_repository(i % {repositories} + 1, {repositories}), now() - i * interval '60 days' / {events}, i,
        'acme/ci', case i % 3 when 0 then 'manifest.put' when 1 then 'blob.put' else 'pull' end,
        case i % 100 when 2 then 'refused' else 'done' end, 'acme/web', 'v' || i, h('m', i % {manifests}), i::text
    from generate_series(1, {events}) i
    """,
    """
    insert into uploads (tenant_id, repository_id, uuid, algorithm, store_key, actor, started_at, expires_at)
    select tenant_id, id, gen_random_uuid(), 'sha256', 'u' || id, 'ann', now() - interval '2 days', now()
    from repositories
    """,
    """
    insert into accounts (tenant_id, name, kind, secret_hash) select 1 + n % 100, 'robot-' || n, 'robot', 'x'
    from generate_series(1, 2000) n
    """,
    """
    insert into garbage_queue (tenant_id, id, kind, repository_id, digest) select tenant_id,
    row_number() over (), 'layer', repository_id, digest from layers limit {manifests} / 20
    """,
    """
    insert into daily_usage (tenant_id, day, tenant, stored_bytes) select id, current_date - d, name, 1000000
    from tenants cross join generate_series(0, 89) d where id > 0
    """,
    """
    insert into daily_pushes (tenant_id, day, repository, pushes, bytes) select tenant_id, current_date - d,
    'r' || id, 5, 1000 from repositories cross join generate_series(1, 59) d
    """,
    """
    insert into tenant_usage (tenant_id, slot, stored_bytes, repositories, manifests, tags)
    select id, s, 1000, 10, 100, 50 from tenants cross join generate_series(0, 15) s where id > 0
    """,
    "update tenants set quota_bytes = 1000000000 where id > 0",
)


class Cost(NamedTuple):
    """Of one question: milliseconds by EXPLAIN ANALYZE, rows, pages, and tables that were read from end to end."""

    milliseconds: float
    rows: int
    pages: int
    read_whole: tuple[str, ...]


@contextmanager
def filled_catalogue(server_url: str, *, manifests: int, events: int) -> Iterator[str]:
    """The URL of a database that is dropped at the end."""
    name = f"bench_reports_{secrets.token_hex(4)}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    try:
        url = make_conninfo(server_url, dbname=name)
        schema.migrate(url)
        _fill(url, manifests=manifests, events=events)
        yield url
    finally:
        with psycopg.connect(server_url, autocommit=True) as server:
            server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _fill(url: str, *, manifests: int, events: int) -> None:
    numbers = {"manifests": manifests, "repositories": max(2, manifests // 500), "events": events, "empty": EMPTY}
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute("set max_parallel_workers_per_gather = 0; set jit = off; set work_mem = '512MB'")
        for statement in FILL:
            started = time.perf_counter()
            owner.execute(statement.format(**numbers))
            print(f"{time.perf_counter() - started:7.1f} s  {' '.join(statement.split())[:70]}", file=sys.stderr)
        owner.execute("vacuum analyze")


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


def main() -> int:
    """1 when a report that has a bar takes longer than it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--manifests", type=int, default=1_000_000, help="with five descriptors each")
    parser.add_argument("--events", type=int, default=10_000_000)
    given = parser.parse_args()
    with filled_catalogue(given.database_url, manifests=given.manifests, events=given.events) as url:
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
