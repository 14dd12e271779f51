"""A database with a big tenant, a small one beside it, and twenty thousand others: what plans are made for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from distsql.sql.database import SERVE_ROLE
from tests.plans.classes import BY_THE_OWNER, COLD, COLLECTING

Connection = psycopg.Connection[tuple[Any, ...]]

MANIFESTS: Final = 20_000
BIG: Final = 1
SMALL: Final = 2

_FILL: Final = """
set session_replication_role = replica;
set synchronous_commit = on; -- else vacuum can't mark pages as visible to all
create function pg_temp.digest(text) returns bytea language sql immutable
    return '\\x01'::bytea || sha256(convert_to($1, 'UTF8'));

insert into tenants (id, name) select n, case n when 1 then 'big' when 2 then 'small' else 'tenant-' || n end
    from generate_series(1, 20000) n;
insert into repositories (tenant_id, id, path) select n, n, 'web' from generate_series(1, 20000) n;
insert into repositories (tenant_id, id, path)
    select 1, 100000 + n, 'repository-' || n from generate_series(1, 5000) n;

insert into tenant_usage (tenant_id, slot) select n, slot from generate_series(1, 20000) n, generate_series(0, 15) slot;

insert into blobs (tenant_id, digest, length, store_key, state)
    select 1, pg_temp.digest('layer ' || n), n, 'key/' || n, case when n % 1000 = 0 then 'condemned' else 'live' end
    from generate_series(1, 5 * {manifests}) n;
insert into layers (tenant_id, repository_id, digest)
    select 1, 1, pg_temp.digest('layer ' || n) from generate_series(1, 5 * {manifests}) n;
-- One layer that everybody has.
insert into layers (tenant_id, repository_id, digest)
    select 1, 100000 + n, pg_temp.digest('layer 1') from generate_series(1, 5000) n;
insert into blobs (tenant_id, digest, length, store_key)
    select 2, pg_temp.digest('layer ' || n), n, 'key/' || n from generate_series(1, 20) n;
insert into layers (tenant_id, repository_id, digest)
    select 2, 2, pg_temp.digest('layer ' || n) from generate_series(1, 20) n;

create temp table sizes as select 1 as tenant, {manifests} as manifests union all select 2, 5;
insert into manifests
        (tenant_id, repository_id, digest, media_type, artifact_type, subject_digest, length, payload, pushed_by)
    select tenant, tenant, pg_temp.digest('manifest ' || n), 'text/x-manifest', 'text/x-' || n % 9,
        case when n % 3 = 0 then pg_temp.digest('manifest ' || n - 1) end, 500,
        convert_to(repeat('x', 500), 'UTF8'), 'ann'
    from sizes, generate_series(1, manifests) n;
insert into descriptors
        (tenant_id, repository_id, manifest_digest, position, role, media_type, length, digest, required)
    select tenant, tenant, pg_temp.digest('manifest ' || n), at, case at when 0 then 'config' else 'layer' end,
        'text/plain', n, pg_temp.digest('layer ' || n + at), true
    from sizes, generate_series(1, manifests) n, generate_series(0, 3) at;
insert into descriptors
        (tenant_id, repository_id, manifest_digest, position, role, media_type, length, digest, required)
    select tenant, tenant, pg_temp.digest('manifest ' || n), 4, 'subject', 'text/plain', n,
        pg_temp.digest('manifest ' || n - 1), false
    from sizes, generate_series(3, manifests, 3) n;
insert into annotations (tenant_id, repository_id, manifest_digest, key, value)
    select tenant, tenant, pg_temp.digest('manifest ' || n), 'title', 'number ' || n
    from sizes, generate_series(1, manifests) n;
insert into tags (tenant_id, repository_id, name, digest, valid_from, actor)
    select tenant, tenant, 'v' || n, pg_temp.digest('manifest ' || 1 + n % manifests), now(), 'ann'
    from sizes, generate_series(1, 5 * manifests) n;
insert into tags (tenant_id, repository_id, name, digest, valid_from, valid_to, actor, ended_by)
    select tenant, tenant, 'v' || n, pg_temp.digest('manifest ' || n), now() - interval '1 day', now(), 'ann', 'bob'
    from sizes, generate_series(1, manifests) n;
insert into signatures (tenant_id, repository_id, manifest_digest, digest, payload)
    select 1, 1, pg_temp.digest('manifest ' || n), pg_temp.digest('signature ' || n), 'x'
    from generate_series(1, 5000) n;
-- One that was signed ten thousand times, and many that were signed once.
insert into signing_manifests (tenant_id, repository_id, subject_digest, manifest_digest, kind)
    select 1, 1, pg_temp.digest('manifest ' || case when n % 2 = 0 then 1 else n end),
        pg_temp.digest('manifest ' || n), case when n % 10 = 1 then 'cosign' else 'referrer' end
    from generate_series(1, {manifests}) n;
insert into uploads (tenant_id, repository_id, uuid, algorithm, store_key, actor, expires_at)
    select 1, 1, gen_random_uuid(), 'sha256', 'staged/' || n, 'ann', now() + n * interval '1 second'
    from generate_series(1, 5000) n;
insert into accounts (tenant_id, id, name, kind, secret_hash)
    select n, 5 * n + a, 'ci-' || a, 'robot', 'x' from generate_series(1, 20000) n, generate_series(1, 4) a;
insert into access_changes (tenant_id, account_id, transaction_id)
    select 1 + n % 20000, n, 1000 + n from generate_series(1, 20000) n;
insert into image_configs (tenant_id, digest)
    select 1, pg_temp.digest('layer ' || n) from generate_series(1, {manifests}) n;
-- Pushes of ten thousand minutes, the newest of them now.
insert into audit_events (tenant_id, at, id, actor, action, repository, digest)
    select 1 + n % 2, now() - n * interval '30 seconds', n, 'ann', 'manifest.put', 'big/web',
        pg_temp.digest('manifest ' || n)
    from generate_series(1, 20000) n;
-- Much that was deleted and pushed lately, of which little is due.
insert into garbage_queue (tenant_id, id, kind, repository_id, digest, queued_at)
    select 1, row_number() over (), kind, 1, pg_temp.digest('layer ' || n), now() - n * interval '1 second'
    from generate_series(1, 5000) n, unnest(array['layer', 'blob', 'manifest', 'subject', 'deleted_manifest']) kind;
insert into kept_references (tenant_id, repository_id, manifest_digest, digest)
    select 1, 1, pg_temp.digest('deleted ' || n / 4), pg_temp.digest('layer ' || n) from generate_series(1, 20000) n;
insert into condemned_bytes (tenant_id, store_key, digest, length, complete, condemned_at)
    select 1, 'condemned/' || n, pg_temp.digest('gone ' || n), n, true, now() - n * interval '1 second'
    from generate_series(1, 5000) n;
vacuum analyze;
"""


def fill(url: str) -> None:
    """Takes some seconds."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _FILL.format(manifests=MANIFESTS).split(";\n"):
            connection.execute(statement)


@contextmanager
def working_as(connection: Connection, name: str, *, tenant_id: int) -> Iterator[None]:
    """As the statement is run in production: for a tenant, under the policies, or over all tenants by the owner."""
    with connection.transaction(force_rollback=True):
        if name not in COLD.keys() | COLLECTING.keys() | BY_THE_OWNER:
            connection.execute(f"set local role {SERVE_ROLE}")
            connection.execute("set local enable_memoize = off")
            connection.execute("select set_config('app.tenant_id', %s, true)", (str(tenant_id),))
        yield
