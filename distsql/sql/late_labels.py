"""Configs of what was pushed lately that nobody has read: whoever was to was killed. A statement of the owner's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ARRAY, BigInteger, LargeBinary, Text, bindparam, column, text

from distsql.sql.columns import INSTANT
from distsql.sql.image_labels import ConfigRow
from distsql.sql.statements import LIMIT, statement
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType

# The audit has what was pushed, by tenant and in order: manifests have no such index, and would pay for it with each
# push. A repository that was renamed since then isn't found here, but by the round over everything.
LIST_LATE_CONFIGS: Final = statement(
    "list_late_configs",
    "A page of configs of images that were pushed within a span, as far as nobody has read them.",
    text(
        """
with pushed as materialized (
    select distinct e.tenant_id, substr(e.repository, strpos(e.repository, '/') + 1) as path, e.digest
    from tenants t
    cross join lateral (
        select e.tenant_id, e.repository, e.digest from audit_events e
        where e.tenant_id = t.id and e.at >= :since and e.at < :until
        and e.action = 'manifest.put' and e.outcome = 'done'
        limit 1000000000 -- tenant by tenant: their key begins with it, and the planner would walk over all of it
    ) e
)
select distinct c.tenant_id, c.digest, c.length, c.store_key
from pushed p
cross join lateral (
    select r.tenant_id, r.id from repositories r
    -- In the order of a key that has the path: most tenants have few repositories, and all could be read as well.
    where r.tenant_id = p.tenant_id and r.path between p.path and p.path and r.deleted_at is null
    order by r.path limit 1
) r
cross join lateral (
    select m.config_media_type from manifests m
    where m.tenant_id = r.tenant_id and m.repository_id = r.id and m.digest = p.digest and m.deleted_at is null
    limit 1
) m
cross join lateral (
    select d.digest from descriptors d
    where d.tenant_id = r.tenant_id and d.repository_id = r.id and d.manifest_digest = p.digest and d.role = 'config'
    and m.config_media_type = any (:media_types)
    limit 1
) d
cross join lateral (
    select b.tenant_id, b.digest, b.length, b.store_key from blobs b
    where b.tenant_id = r.tenant_id and b.digest = d.digest and b.state = 'live'
    and not starts_with(b.store_key, 'lost:')
    limit 1
) c
where (c.tenant_id, c.digest) > (:tenant_id, :digest)
and not exists (select from image_configs i where i.tenant_id = c.tenant_id and i.digest = c.digest)
order by c.tenant_id, c.digest limit :limit
"""
    )
    .bindparams(
        bindparam("since", type_=INSTANT),
        bindparam("until", type_=INSTANT),
        bindparam("tenant_id", type_=BigInteger()),
        bindparam("digest", type_=LargeBinary()),
        bindparam("media_types", type_=ARRAY(Text())),
        LIMIT,
    )
    .columns(
        column("tenant_id", BigInteger()),
        column("digest", DigestType()),
        column("length", BigInteger()),
        column("store_key", Text()),
    ),
    ConfigRow,
)


async def list_late_configs(
    tx: Transaction,
    span: tuple[datetime, datetime],
    *,
    after: tuple[int, bytes],
    media_types: Sequence[str],
    limit: int,
) -> list[ConfigRow]:
    """Those behind one of them, by tenant's id and packed digest."""
    since, until = span
    return await tx.all(
        LIST_LATE_CONFIGS,
        since=since,
        until=until,
        tenant_id=after[0],
        digest=after[1],
        media_types=list(media_types),
        limit=limit,
    )
