"""A large catalogue for reports: filled with sets of SQL in a few minutes, on a server that may lose it.

Half of everything is of one tenant, acme, in 500 manifests for each repository; it asks about acme/web.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from distsql.sql import schema
from distsql.sql.audit import partition_statements

Connection = psycopg.Connection[tuple[Any, ...]]

EMPTY: Final = "'\\x01'::bytea || sha256('')"
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
    'r' || id, 5, 1000 from repositories cross join generate_series(0, 59) d
    """,
    # A server rolls up every ten minutes, and leaves the last ten out.
    "insert into day_roll_ups (tenant_id, pushes_until) select id, now() - interval '20 minutes' from tenants",
    """
    insert into tenant_usage (tenant_id, slot, stored_bytes, repositories, manifests, tags)
    select id, s, 1000, 10, 100, 50 from tenants cross join generate_series(0, 15) s where id > 0
    """,
    "update tenants set quota_bytes = 1000000000 where id > 0",
)


# What a report needs and no constraint does: made once all rows are there, which takes a fifth of the time.
_INDEXES: Final = """
select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid
where c.relnamespace = 'public'::regnamespace and not c.relispartition and not i.indisunique
"""
# Of a server that may lose everything.
_CARELESS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}


@contextmanager
def filled_catalogue(server_url: str, *, manifests: int, events: int, keep: bool = False) -> Iterator[str]:
    """The URL of a database that is dropped at the end, unless it is to be kept."""
    name = f"bench_reports_{secrets.token_hex(4)}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    url = make_conninfo(server_url, dbname=name)
    try:
        schema.migrate(url)
        _fill(url, manifests=manifests, events=events)
        yield url
    finally:
        if not keep:
            with psycopg.connect(server_url, autocommit=True) as server:
                server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def be_careless(server_url: str) -> None:
    """Tells a server of the benchmark's own that it may lose everything: it is filled twice as fast."""
    with psycopg.connect(server_url, autocommit=True) as server:
        for name, value in _CARELESS.items():
            server.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        server.execute("select pg_reload_conf()")


def _fill(url: str, *, manifests: int, events: int) -> None:
    numbers = {"manifests": manifests, "repositories": max(2, manifests // 500), "events": events, "empty": EMPTY}
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute("set max_parallel_workers_per_gather = 0; set jit = off; set work_mem = '512MB'")
        owner.execute("set maintenance_work_mem = '1GB'")
        indexes = owner.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            owner.execute(f"drop index {name}".encode())
        _make_past_months(owner)
        filling = [statement.format(**numbers) for statement in FILL]
        # Of a partitioned table an index is written without its partitions'.
        making = [definition.replace(" ON ONLY ", " ON ") for _, definition in indexes]
        for statement in (*filling, *making, "vacuum analyze"):
            started = time.perf_counter()
            owner.execute(statement.encode())
            print(f"{time.perf_counter() - started:7.1f} s  {' '.join(statement.split())[:90]}", file=sys.stderr)


def _make_past_months(owner: Connection) -> None:
    """As a registry has them that is older than two months; `distsql migrate` makes those ahead."""
    month = datetime.now(UTC).date().replace(day=1)
    there = {name for (name,) in owner.execute("select relname::text from pg_class where relispartition").fetchall()}
    for name, statements in partition_statements((month - timedelta(days=61)).replace(day=1), 3).items():
        if name not in there:
            with owner.transaction():
                for each in statements:
                    owner.execute(each.encode())
