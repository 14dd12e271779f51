"""What was deleted and can be restored, for people. Statements."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, DateTime, Interval, Text, bindparam, column, text

from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.sql.statements import statement
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType


class DeletedThingRow(NamedTuple):
    """A tag, manifest or repository that was deleted: until when it can be restored."""

    kind: str
    repository: str
    tag: str | None
    digest: Digest | None
    deleted_at: datetime
    deleted_by: str | None
    restorable_until: datetime


_COLUMNS: Final = (
    column("kind", Text()),
    column("repository", Text()),
    column("tag", Text()),
    column("digest", DigestType()),
    column("deleted_at", DateTime(timezone=True)),
    column("deleted_by", Text()),
    column("restorable_until", DateTime(timezone=True)),
)

# Manifests by their entries in the queue, which has an index of instants; tags of repositories that are there. A tag's
# manifest is looked for by its key (a lateral with a limit is no join to the planner): by the repository alone, each of
# its tags was compared with each of its manifests, for ten minutes where there were twenty thousand.
_DELETED: Final = """
with since as (select now() - cast(:restore_period as interval) as at), deleted as (
    select 'repository' as kind, t.name || '/' || r.path as repository, cast(null as text) as tag,
        cast(null as bytea) as digest, r.deleted_at, r.deleted_by
    from repositories r join tenants t on t.id = r.tenant_id cross join since s
    where r.deleted_at > s.at and r.purged_at is null
    union all
    select distinct 'manifest', t.name || '/' || r.path, cast(null as text), m.digest, m.deleted_at, m.deleted_by
    from since s join garbage_queue q on q.kind = 'deleted_manifest' and q.queued_at > s.at
    join manifests m on (m.tenant_id, m.repository_id, m.digest) = (q.tenant_id, q.repository_id, q.digest)
    join repositories r on r.tenant_id = m.tenant_id and r.id = m.repository_id
    join tenants t on t.id = r.tenant_id
    where m.deleted_at > s.at and r.deleted_at is null
    union all
    select 'tag', t.name || '/' || r.path, g.name, g.digest, g.valid_to, g.ended_by
    from since s join tags g on g.valid_to > s.at
    join repositories r on r.tenant_id = g.tenant_id and r.id = g.repository_id
    join tenants t on t.id = r.tenant_id
    cross join lateral (
        select 1 from manifests m where (m.tenant_id, m.repository_id, m.digest)
            = (g.tenant_id, g.repository_id, g.digest) limit 1
    ) there
    where r.deleted_at is null and not exists (
        select from tags l where (l.tenant_id, l.repository_id, l.name) = (g.tenant_id, g.repository_id, g.name)
        and l.valid_from > g.valid_from
    )
)
select kind, repository, tag, digest, deleted_at, deleted_by,
    deleted_at + cast(:restore_period as interval) as restorable_until
from deleted
where cast(:prefix as text) is null or repository = :prefix or starts_with(repository, :prefix || '/')
order by deleted_at desc, repository, kind, tag limit :limit
"""

_KIND_OF_TAG: Final = """
    select 'tag', :tenant || '/' || :path, g.name, g.digest, g.valid_to, g.ended_by
    from since s, live r join tags g on g.tenant_id = r.tenant_id and g.repository_id = r.id
    cross join lateral (
        select 1 from manifests m where (m.tenant_id, m.repository_id, m.digest)
            = (g.tenant_id, g.repository_id, g.digest) limit 1
    ) there
    where g.valid_to > s.at and not exists (
        select from tags l where (l.tenant_id, l.repository_id, l.name) = (g.tenant_id, g.repository_id, g.name)
        and l.valid_from > g.valid_from
    )
"""
_DELETED_HERE: Final = f"""
with since as (select now() - cast(:restore_period as interval) as at), named as (
    select r.tenant_id, r.id, r.deleted_at, r.deleted_by, r.purged_at
    from tenants t join repositories r on r.tenant_id = t.id where t.name = :tenant and r.path = :path
), live as (select * from named where deleted_at is null), deleted as (
    select 'repository' as kind, :tenant || '/' || :path as repository, cast(null as text) as tag,
        cast(null as bytea) as digest, r.deleted_at, r.deleted_by
    from named r, since s where r.deleted_at > s.at and r.purged_at is null
    union all
    select 'manifest', :tenant || '/' || :path, null, m.digest, m.deleted_at, m.deleted_by
    from since s, live r join manifests m on m.tenant_id = r.tenant_id and m.repository_id = r.id
    where m.deleted_at > s.at
    union all {_KIND_OF_TAG}
)
select kind, repository, tag, digest, deleted_at, deleted_by,
    deleted_at + cast(:restore_period as interval) as restorable_until
from deleted order by deleted_at desc, kind, tag, digest limit :limit
"""  # noqa: S608  # constants only

LIST_DELETED_THINGS: Final = statement(
    "list_deleted_things",
    "Tags, manifests and repositories that can be restored, newest first.",
    text(_DELETED)
    .bindparams(
        bindparam("restore_period", type_=Interval()),
        bindparam("prefix", type_=Text()),
        bindparam("limit", type_=BigInteger()),
    )
    .columns(*_COLUMNS),
    DeletedThingRow,
)

LIST_DELETED_OF_REPOSITORY: Final = statement(
    "list_deleted_of_repository",
    "Tags and manifests of one repository that can be restored, or repositories of the name that were, newest first.",
    text(_DELETED_HERE)
    .bindparams(
        bindparam("restore_period", type_=Interval()),
        bindparam("tenant", type_=Text()),
        bindparam("path", type_=Text()),
        bindparam("limit", type_=BigInteger()),
    )
    .columns(*_COLUMNS),
    DeletedThingRow,
)


async def list_deleted_of_repository(
    tx: Transaction, name: RepositoryName, *, period: timedelta, limit: int
) -> list[DeletedThingRow]:
    """What can be restored of this repository."""
    return await tx.all(
        LIST_DELETED_OF_REPOSITORY, tenant=name.tenant, path=name.path, restore_period=period, limit=limit
    )


async def list_deleted_things(
    tx: Transaction, *, prefix: str | None, period: timedelta, limit: int
) -> list[DeletedThingRow]:
    """What can be restored: of a tenant or repository, or of all."""
    return await tx.all(LIST_DELETED_THINGS, prefix=prefix, restore_period=period, limit=limit)
