"""What a run of garbage collection would find at each of its rounds, with what it removed before. Statements that read.

As the statements of a run (`distsql.sql.garbage_manifests`), for which removed manifests are deleted already.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import ARRAY, BigInteger, Boolean, Interval, Text, bindparam, column, text
from sqlalchemy.types import TypeEngine

from distsql.oci.digest import Digest
from distsql.sql.manifest_deletions import ManifestKeyRow, key_arrays
from distsql.sql.statements import Row, Statement, statement
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType


class DueRow(NamedTuple):
    """An entry of the queue whose time has come: ``kind`` is ``manifest`` or ``subject``."""

    kind: str
    tenant_id: int
    repository_id: int
    digest: Digest

    @property
    def key(self) -> ManifestKeyRow:
        """What it is about."""
        return ManifestKeyRow(self.tenant_id, self.repository_id, self.digest)


class ForeseenRow(NamedTuple):
    """A manifest that nothing holds, its subject, and whether its time has not come."""

    tenant_id: int
    repository_id: int
    digest: Digest
    subject_digest: Digest | None
    young: bool

    @property
    def key(self) -> ManifestKeyRow:
        """Its key alone."""
        return ManifestKeyRow(self.tenant_id, self.repository_id, self.digest)


# What is due, and repositories of which nothing is left after the run. A run queues those of a deleted tenant at its
# beginning, from when on they are deleted.
_GONE: Final = """
due as materialized (
    select distinct kind, tenant_id, repository_id, digest from garbage_queue
    where (kind in ('layer', 'manifest', 'subject', 'tenant') and queued_at <= now() - cast(:grace as interval))
    or (kind in ('deleted_manifest', 'repository') and queued_at <= now() - cast(:restore_period as interval))
    or (kind = 'blob' and queued_at <= now())
), due_tenants as materialized (
    select d.tenant_id from due d join tenants t on t.id = d.tenant_id
    where d.kind = 'tenant' and t.deleted_at <= now() - cast(:grace as interval)
), gone_repositories as materialized (
    select r.tenant_id, r.id as repository_id from due d
    join repositories r on r.tenant_id = d.tenant_id and r.id = d.repository_id
    where d.kind = 'repository' and r.deleted_at <= now() - cast(:restore_period as interval)
    union
    select r.tenant_id, r.id from due_tenants g join repositories r on r.tenant_id = g.tenant_id
    where r.deleted_at is null and cast(:restore_period as interval) <= interval '0'
)"""

_REMOVED: Final = """
removed as materialized (
    select * from unnest(:removed_tenant_ids, :removed_repository_ids, :removed_digests)
        as removed (tenant_id, repository_id, digest)
)"""

_HELD: Final = """
    exists (select from tags g where (g.tenant_id, g.repository_id, g.live_digest)
        = (m.tenant_id, m.repository_id, m.digest))
    or exists (select from descriptors p where p.tenant_id = m.tenant_id and p.digest = m.digest
        and p.repository_id = m.repository_id and p.role <> 'subject'
        and (p.tenant_id, p.repository_id, p.manifest_digest) not in (select * from removed))
    or exists (select from manifests s where (s.tenant_id, s.repository_id, s.digest)
        = (m.tenant_id, m.repository_id, m.subject_digest) and s.deleted_at is null
        and (s.tenant_id, s.repository_id, s.digest) not in (select * from removed))"""


def whole(sql: str) -> str:
    """With what several statements have in common in the place of its name."""
    return sql.replace("<gone>", _GONE).replace("<removed>", _REMOVED).replace("<held>", _HELD)


_TYPES: Final[Mapping[str, TypeEngine[Any]]] = {
    "grace": Interval(),
    "restore_period": Interval(),
    "limit": BigInteger(),
    "tenant_ids": ARRAY(BigInteger()),
    "repository_ids": ARRAY(BigInteger()),
    "digests": ARRAY(DigestType()),
    "removed_tenant_ids": ARRAY(BigInteger()),
    "removed_repository_ids": ARRAY(BigInteger()),
    "removed_digests": ARRAY(DigestType()),
}


def _reading(
    name: str, purpose: str, sql: str, row_type: type[Row], columns: Mapping[str, TypeEngine[Any]]
) -> Statement[Row]:
    sql = whole(sql)
    types = [bindparam(each, type_=type_) for each, type_ in _TYPES.items() if f":{each}" in sql]
    return statement(
        name,
        purpose,
        text(sql).bindparams(*types).columns(*(column(each, type_) for each, type_ in columns.items())),
        row_type,
    )


_KEY: Final[Mapping[str, TypeEngine[Any]]] = {
    "tenant_id": BigInteger(),
    "repository_id": BigInteger(),
    "digest": DigestType(),
}
_FORESEEN: Final = {**_KEY, "subject_digest": DigestType(), "young": Boolean()}

LIST_DUE: Final = _reading(
    "list_due",
    "Manifests, and subjects of referrers, that a run would look at, in its order; where nothing is kept for a while "
    "also those that it would queue at its beginning.",
    """
with <gone>, <removed>, queued as (
    select q.kind, q.tenant_id, q.repository_id, q.digest, q.queued_at from garbage_queue q
    where q.kind in ('manifest', 'subject') and q.queued_at <= now() - cast(:grace as interval)
    union all
    select 'manifest', m.tenant_id, m.repository_id, m.digest, now() from garbage_queue q
    join manifests m on m.tenant_id = q.tenant_id and (q.repository_id = 0 or m.repository_id = q.repository_id)
    where q.kind = 'untagged' and cast(:grace as interval) <= interval '0' and q.queued_at <= now()
    and m.deleted_at is null and not (<held>)
)
select q.kind, q.tenant_id, q.repository_id, q.digest from queued q
where (q.tenant_id, q.repository_id) not in (select tenant_id, repository_id from gone_repositories)
and (q.kind = 'subject' or q.tenant_id not in (select tenant_id from due_tenants))
order by q.kind, q.queued_at
""",
    DueRow,
    {"kind": Text(), **_KEY},
)

FORESEE_MANIFESTS: Final = _reading(
    "foresee_manifests",
    "Which of some manifests would go, or would have to wait, where untagged ones are collected.",
    """
with <removed>
select m.tenant_id, m.repository_id, m.digest, m.subject_digest,
    greatest(m.pushed_at, m.promised_at) > now() - cast(:grace as interval)
    or exists (select from tags g where (g.tenant_id, g.repository_id, g.digest)
        = (m.tenant_id, m.repository_id, m.digest) and g.valid_to > now() - cast(:restore_period as interval))
from unnest(:tenant_ids, :repository_ids, :digests) as asked (tenant_id, repository_id, digest)
join manifests m on (m.tenant_id, m.repository_id, m.digest) = (asked.tenant_id, asked.repository_id, asked.digest)
join repositories r on r.tenant_id = m.tenant_id and r.id = m.repository_id
join tenants t on t.id = m.tenant_id
where m.deleted_at is null and r.deleted_at is null and coalesce(r.untagged, t.untagged) = 'collect'
and (m.tenant_id, m.repository_id, m.digest) not in (select * from removed) and not (<held>)
""",
    ForeseenRow,
    _FORESEEN,
)

FORESEE_FOLLOWERS: Final = _reading(
    "foresee_followers",
    "Referrers of deleted manifests that would go with them, or would have to wait.",
    """
with <removed>
select m.tenant_id, m.repository_id, m.digest, m.subject_digest,
    coalesce(m.promised_at > now() - cast(:grace as interval), false)
from unnest(:tenant_ids, :repository_ids, :digests) as asked (tenant_id, repository_id, digest)
join descriptors d on d.tenant_id = asked.tenant_id and d.digest = asked.digest
    and d.repository_id = asked.repository_id and d.role = 'subject'
join manifests m on (m.tenant_id, m.repository_id, m.digest) = (d.tenant_id, d.repository_id, d.manifest_digest)
where m.deleted_at is null
and (m.tenant_id, m.repository_id, m.digest) not in (select * from removed) and not (<held>)
limit :limit
""",
    ForeseenRow,
    _FORESEEN,
)

LIST_FORESEEN_CHILDREN: Final = _reading(
    "list_foreseen_children",
    "What removed manifests have as children, which would be looked at next.",
    """
select distinct d.tenant_id, d.repository_id, d.digest
from unnest(:tenant_ids, :repository_ids, :digests) as asked (tenant_id, repository_id, digest)
join descriptors d on (d.tenant_id, d.repository_id, d.manifest_digest)
    = (asked.tenant_id, asked.repository_id, asked.digest)
where d.role = 'manifest'
order by d.tenant_id, d.repository_id, d.digest
""",
    ManifestKeyRow,
    _KEY,
)


async def list_due(tx: Transaction, *, grace: timedelta, restore_period: timedelta) -> list[DueRow]:
    """What a run would begin with, the oldest of a kind first."""
    return await tx.all(LIST_DUE, grace=grace, restore_period=restore_period, **removed_arrays(()))


async def foresee_manifests(
    tx: Transaction,
    keys: Sequence[ManifestKeyRow],
    removed: Collection[ManifestKeyRow],
    *,
    grace: timedelta,
    restore_period: timedelta,
) -> list[ForeseenRow]:
    """Those of the manifests that nothing holds but what was removed."""
    return await tx.all(
        FORESEE_MANIFESTS, grace=grace, restore_period=restore_period, **key_arrays(keys), **removed_arrays(removed)
    )


async def foresee_followers(
    tx: Transaction,
    keys: Sequence[ManifestKeyRow],
    removed: Collection[ManifestKeyRow],
    *,
    grace: timedelta,
    limit: int,
) -> list[ForeseenRow]:
    """Referrers of these manifests, as far as they are deleted, that nothing holds but what was removed."""
    return await tx.all(FORESEE_FOLLOWERS, grace=grace, limit=limit, **key_arrays(keys), **removed_arrays(removed))


async def list_foreseen_children(tx: Transaction, keys: Sequence[ManifestKeyRow]) -> list[ManifestKeyRow]:
    """Children of these manifests."""
    return await tx.all(LIST_FORESEEN_CHILDREN, **key_arrays(keys))


def removed_arrays(removed: Collection[ManifestKeyRow]) -> dict[str, list[Any]]:
    """Parameters of statements that take manifests for deleted."""
    return {f"removed_{name}": values for name, values in key_arrays(list(removed)).items()}
