"""Rows of manifests that were deleted so long ago that they can't be restored any more. Statements."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Interval, delete, func, select, tuple_

from distsql.oci.digest import Digest
from distsql.sql.garbage import entry_arrays
from distsql.sql.garbage_queue import QueuedRow, queued, queueing
from distsql.sql.garbage_tables import kept_references
from distsql.sql.statements import Nothing, parameter, statement, unnested
from distsql.sql.tables import manifests
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType


class PurgedManifestRow(NamedTuple):
    """A manifest whose row is gone."""

    digest: Digest


_RESTORE: Final = parameter("restore_period", Interval())
_keys = unnested({"tenant_id": BigInteger(), "repository_id": BigInteger(), "digest": DigestType()})
_key = (manifests.c.tenant_id, manifests.c.repository_id, manifests.c.digest)

PURGE_MANIFESTS: Final = statement(
    "purge_manifests",
    "Manifests that can't be restored any more, with all that hangs on them.",
    delete(manifests)
    .where(tuple_(*_key).in_(select(*_keys.c)), manifests.c.deleted_at <= func.now() - _RESTORE)
    .returning(manifests.c.digest),
    PurgedManifestRow,
)

_kept_key = (kept_references.c.tenant_id, kept_references.c.repository_id, kept_references.c.manifest_digest)
_released = (
    delete(kept_references)
    # Also of one that is live again: what an earlier deletion of it kept.
    .where(tuple_(*_kept_key).in_(select(*_keys.c)), kept_references.c.deleted_at <= func.now() - _RESTORE)
    .returning(kept_references.c.tenant_id, kept_references.c.digest)
    .cte("released")
)

RELEASE_KEPT: Final = statement(
    "release_kept",
    "What manifests kept that can't be restored any more may be garbage.",
    queued(queueing("blob", tenant_id=_released.c.tenant_id, digest=_released.c.digest)),
    Nothing,
)


async def purge_manifests(tx: Transaction, rows: Sequence[QueuedRow], *, restore_period: timedelta) -> int:
    """How many manifests went. What they kept is released in a transaction of its own, after this."""
    return len(await tx.all(PURGE_MANIFESTS, restore_period=restore_period, **entry_arrays(rows)))


def release_kept(tx: Transaction, rows: Sequence[QueuedRow], *, restore_period: timedelta) -> None:
    """Queues the blobs that the manifests kept."""
    tx.queue(RELEASE_KEPT, restore_period=restore_period, **entry_arrays(rows))
