"""A catalogue of any size, by insert-select: tenants, repositories, manifests with their descriptors, tags, history.

For benchmarks of scale and of reports, on a server that may lose it.

The first tenant, acme, has a share of its own, and the first repository, acme/web, as many more manifests as wanted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import psycopg

from distsql.oci.digest import Digest
from distsql.sql.audit import partition_statements

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of what. All manifests have five descriptors."""

    tenants: int
    repositories: int
    manifests: int
    events: int
    """Of the audit, in the last 60 days."""
    acme: int
    """Repositories of the first tenant."""
    web: int = 0
    """Manifests of the first repository, beside its equal share."""
    tagged: int = 2
    """One manifest of so many has tags."""
    tags: int = 1
    """Of each of those."""
    moves: int = 5
    """What a tag pointed to before, of those that ever moved: about a tenth."""
    days: int = 90
    """With statistics of pulls and use."""

    def place(self, number: int) -> tuple[str, str]:
        """The repository of a manifest, by its number from 1, and a tag that it has where all have one."""
        repository = 1 if number <= self.web else 1 + number % self.repositories
        tenant = "acme" if repository <= self.acme else f"tenant-{2 + repository % (self.tenants - 1)}"
        path = "web" if repository == 1 else f"repository-{repository}"
        return f"{tenant}/{path}", "latest" if number // self.repositories == 2 else f"v{number}"

    def image(self, number: int) -> Image | None:
        """What a manifest is, where all have tags; None: an index, which has no config."""
        if number // self.repositories % 100 == 1:
            return None
        return Image(*self.place(number), _digest("m", number), _digest("c", number))


class Image(NamedTuple):
    """Where a manifest is, and of what."""

    repository: str
    tag: str
    digest: Digest
    config: Digest


def _digest(kind: str, number: int) -> Digest:
    """As `h` below; ``b`` is 0."""
    return Digest.of(f"{kind}{number}-0{' ' * 480 if kind == 'm' else ''}".encode())


def fill(url: str, shape: Shape, tell: Callable[[str], None]) -> None:
    """By a superuser, into an empty catalogue: foreign keys aren't checked meanwhile."""
    numbers = {**asdict(shape), "empty": _EMPTY}
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("set session_replication_role = replica; set synchronous_commit = off")
        owner.execute("set max_parallel_workers_per_gather = 0; set jit = off; set work_mem = '512MB'")
        owner.execute("set maintenance_work_mem = '1GB'")
        _make_past_months(owner)
        indexes = owner.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            owner.execute(f"drop index {name}".encode())
        # Of a partitioned table an index is written without its partitions'.
        making = [definition.replace(" ON ONLY ", " ON ") for _, definition in indexes]
        for statement in (*(each.format(**numbers) for each in _FILL), *making):
            started = time.perf_counter()
            owner.execute(statement.encode())
            tell(f"{time.perf_counter() - started:7.1f} s  {' '.join(statement.split())[:70]}")
        owner.execute("set synchronous_commit = on")  # else vacuum can't mark pages as visible to all
        owner.execute("vacuum analyze")


def _make_past_months(owner: Connection) -> None:
    """As a registry has them that is older than two months; `distsql migrate` makes those ahead."""
    month = datetime.now(UTC).date().replace(day=1)
    there = {name for (name,) in owner.execute("select relname::text from pg_class where relispartition").fetchall()}
    for name, statements in partition_statements((month - timedelta(days=61)).replace(day=1), 3).items():
        if name not in there:
            with owner.transaction():
                for each in statements:
                    owner.execute(each.encode())


# What a question needs and no constraint does: made once all rows are there, which takes a fifth of the time.
_INDEXES: Final = """
select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid
where c.relnamespace = 'public'::regnamespace and not c.relispartition and not i.indisunique
"""
_EMPTY: Final = "'\\x01'::bytea || sha256('')"
_FILL: Final = (
    # What a manifest consists of is no JSON, but as long as one, and its digest is right: it can be pulled.
    """
    create function content(kind text, a bigint, b bigint) returns bytea language sql immutable parallel safe
    return convert_to(kind || a || '-' || b || case kind when 'm' then repeat(' ', 480) else '' end, 'UTF8')
    """,
    """
    create function h(kind text, a bigint, b bigint default 0) returns bytea language sql immutable parallel safe
    return '\\x01'::bytea || sha256(content(kind, a, b))
    """,
    """
    create function tenant_of(r bigint) returns bigint language sql immutable parallel safe
    return case when r <= {acme} then 1 else 2 + r % ({tenants} - 1) end
    """,
    """
    create function repository_of(i bigint) returns bigint language sql immutable parallel safe
    return case when i <= {web} then 1 else 1 + i % {repositories} end
    """,
    """
    insert into tenants (id, name) select n, case n when 1 then 'acme' else 'tenant-' || n end
    from generate_series(1, {tenants}) n
    """,
    """
    insert into repositories (tenant_id, id, path) overriding system value select tenant_of(r), r,
    case r when 1 then 'web' else 'repository-' || r end from generate_series(1, {repositories}) r
    """,
    """
    insert into manifests (tenant_id, repository_id, digest, media_type, artifact_type, subject_digest, length, payload,
        pushed_at, pushed_by)
    select tenant_of(r), r, h('m', i),
        case i / {repositories} % 100 when 1 then 'application/vnd.oci.image.index.v1+json'
            else 'application/vnd.oci.image.manifest.v1+json' end,
        case i / {repositories} % 10 when 5 then 'application/spdx+json' end,
        case i / {repositories} % 10 when 5 then h('m', i - {repositories}) end,
        length(content('m', i, 0)), content('m', i, 0), now() - i * interval '20 seconds', 'acme/ci'
    from generate_series(1, {manifests}) i cross join lateral (select repository_of(i) as r) x order by 1, 2
    """,
    # A config and four layers: one of 50 bases, one of its 20 frameworks, and two of its own. A base has one layer.
    """
    insert into descriptors (tenant_id, repository_id, manifest_digest, position, role, media_type, length, digest, os,
        architecture, required)
    select m.tenant_id, m.repository_id, m.digest, p, d.role, 'application/vnd.oci.image.layer.v1.tar+gzip', 1000 + p,
        d.digest, case d.role when 'manifest' then 'linux' end, case d.role when 'manifest' then 'arm64' end, true
    from (
        select tenant_of(r) as tenant_id, r as repository_id, h('m', i) as digest, i, i / {repositories} as n
        from generate_series(1, {manifests}) i cross join lateral (select repository_of(i) as r) x order by 1, 2
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
    substr(encode(digest, 'hex'), 3, 2) || '/' || substr(encode(digest, 'hex'), 3, 32) from descriptors
    where role in ('config', 'layer') group by 1, 2 order by 1, 2
    """,
    """
    insert into layers (tenant_id, repository_id, digest, length, needed_at)
    select tenant_id, repository_id, digest, min(length), now() - interval '1 day'
    from descriptors where role in ('config', 'layer') group by 1, 2, 3 order by 1, 2, 3
    """,
    """
    insert into tags (tenant_id, repository_id, name, digest, valid_from, actor)
    select tenant_of(r), r, case when i / {repositories} = 2 and t = 1 then 'latest' when t = 1 then 'v' || i
        else 'v' || i || '.' || t end, h('m', i), now() - i * interval '20 seconds', 'acme/ci'
    from generate_series(1, {manifests}) i cross join generate_series(1, {tags}) t
    cross join lateral (select repository_of(i) as r) x where i / {repositories} % {tagged} = 0 order by 1, 2
    """,
    """
    insert into tags (tenant_id, repository_id, name, digest, valid_from, valid_to, actor, ended_by)
    select tenant_id, repository_id, name, h('m', n), valid_from - n * interval '1 day',
        valid_from - (n - 1) * interval '1 day', 'acme/ci', 'acme/ci'
    from tags cross join generate_series(1, {moves}) n where name = 'latest' or name like '%8'
    """,
    """
    insert into annotations (tenant_id, repository_id, manifest_digest, key, value) select tenant_id, repository_id,
    digest, 'org.opencontainers.image.revision', encode(substr(digest, 2, 20), 'hex') from manifests
    """,
    """
    insert into image_configs (tenant_id, digest) select distinct tenant_id, digest from descriptors
    where role = 'config' order by 1, 2
    """,
    """
    insert into image_labels (tenant_id, digest, key, value) select tenant_id, digest,
    'org.opencontainers.image.revision', encode(substr(digest, 2, 20), 'hex') from image_configs
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
    current_date - d, id, 'robot', 10, 5, 1000 from repositories cross join generate_series(0, {days} - 1) d
    """,
    """
    insert into audit_events (tenant_id, at, id, actor, action, outcome, repository, reference, digest, request_id)
    select tenant_of(i % {repositories} + 1), now() - i * interval '60 days' / {events}, i,
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
    insert into accounts (tenant_id, name, kind, secret_hash) select 1 + n % {tenants}, 'robot-' || n, 'robot', 'x'
    from generate_series(1, 20 * {tenants}) n
    """,
    """
    insert into garbage_queue (tenant_id, id, kind, repository_id, digest) select tenant_id,
    row_number() over (), 'layer', repository_id, digest from layers limit {manifests} / 20
    """,
    """
    insert into daily_usage (tenant_id, day, tenant, stored_bytes) select id, current_date - d, name, 1000000
    from tenants cross join generate_series(0, {days} - 1) d where id > 0
    """,
    """
    insert into daily_pushes (tenant_id, day, repository, pushes, bytes) select tenant_id, current_date - d,
    'r' || id, 5, 1000 from repositories cross join generate_series(0, {days} * 2 / 3 - 1) d
    """,
    # A server rolls up every ten minutes, and leaves the last ten out.
    "insert into day_roll_ups (tenant_id, pushes_until) select id, now() - interval '20 minutes' from tenants",
    """
    insert into tenant_usage (tenant_id, slot, stored_bytes, repositories, manifests, tags)
    select id, s, 1000, 10, 100, 50 from tenants cross join generate_series(0, 15) s where id > 0 order by 1, 2
    """,
    "update tenants set quota_bytes = 1000000000 where id > 0",
    "select setval(pg_get_serial_sequence(t, 'id'), 1000000000) from unnest(array['tenants', 'repositories']) t",
)
