"""Manifests that garbage collection deletes, and rows of those that were deleted long enough ago. Statements."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Interval,
    Text,
    and_,
    delete,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)

from distsql.oci.digest import Digest
from distsql.sql.database import Transaction
from distsql.sql.garbage import entry_arrays
from distsql.sql.garbage_queue import QueuedRow, queued, queueing
from distsql.sql.garbage_tables import kept_references
from distsql.sql.manifest_deletions import ManifestKeyRow
from distsql.sql.statements import LIMIT, ONE, REPOSITORY_ID, TENANT_ID, Nothing, parameter, statement, unnested
from distsql.sql.tables import descriptors, manifests, repositories, tags, tenants
from distsql.sql.types import DigestType


class JudgedManifestRow(NamedTuple):
    """A live manifest that its repository may collect.

    ``needed`` says whether a tag, a parent or its subject holds it; ``pushed_at`` when it was pushed, or somebody was
    told since that it is there; ``untagged_at`` when it was last tagged.
    """

    tenant_id: int
    repository_id: int
    digest: Digest
    needed: bool
    pushed_at: datetime
    untagged_at: datetime | None


class FollowerRow(NamedTuple):
    """A referrer of a manifest that was deleted."""

    tenant_id: int
    repository_id: int
    digest: Digest


class JudgedFollowerRow(NamedTuple):
    """A referrer that nothing holds, what it refers to, and when somebody was told last that it is there."""

    tenant_id: int
    repository_id: int
    digest: Digest
    subject_digest: Digest
    promised_at: datetime | None


class PurgedManifestRow(NamedTuple):
    """A manifest whose row is gone."""

    digest: Digest


_RESTORE: Final = parameter("restore_period", Interval())
_SUBJECT: Final = literal_column("'subject'", Text())
_COLLECT: Final = literal_column("'collect'", Text())
_keys = unnested({"tenant_id": BigInteger(), "repository_id": BigInteger(), "digest": DigestType()})
_key = (manifests.c.tenant_id, manifests.c.repository_id, manifests.c.digest)
_wanted = (
    manifests.c.tenant_id == _keys.c.tenant_id,
    manifests.c.repository_id == _keys.c.repository_id,
    manifests.c.digest == _keys.c.digest,
    manifests.c.deleted_at.is_(None),
)
_locked = select(*_key).where(*_wanted).limit(ONE).with_for_update(skip_locked=True).lateral("manifest")

LOCK_CANDIDATES: Final = statement(
    "lock_candidates",
    "Those of some live manifests that nobody works with just now.",
    select(*_locked.c).select_from(_keys.join(_locked, true())),
    ManifestKeyRow,
)

_tagged = (
    select(tags.c.name)
    .where(
        tags.c.tenant_id == manifests.c.tenant_id,
        tags.c.repository_id == manifests.c.repository_id,
        tags.c.live_digest == manifests.c.digest,
    )
    .exists()
)
_parents = descriptors.alias("parent")
_has_parent = (
    select(_parents.c.digest)
    .where(
        _parents.c.tenant_id == manifests.c.tenant_id,
        _parents.c.digest == manifests.c.digest,
        _parents.c.repository_id == manifests.c.repository_id,
        _parents.c.role != _SUBJECT,
    )
    .exists()
)
_subjects = manifests.alias("subject")
_has_subject = (
    select(_subjects.c.digest)
    .where(
        _subjects.c.tenant_id == manifests.c.tenant_id,
        _subjects.c.repository_id == manifests.c.repository_id,
        _subjects.c.digest == manifests.c.subject_digest,
        _subjects.c.deleted_at.is_(None),
    )
    .exists()
)
NEEDED: Final = or_(_tagged, _has_parent, _has_subject)
"""That a live manifest is held: by a tag, an index, or what it says something about."""
# When the last of its tags was moved or ended: it can go back for as long as anything can be restored.
_untagged_at = (
    select(func.max(tags.c.valid_to))
    .where(
        tags.c.tenant_id == manifests.c.tenant_id,
        tags.c.repository_id == manifests.c.repository_id,
        tags.c.digest == manifests.c.digest,
        tags.c.valid_to > func.now() - _RESTORE,
    )
    .scalar_subquery()
)


def _collects() -> ColumnElement[bool]:
    """Whether the repository, or else its tenant, wants untagged manifests to go; a deleted one is purged whole."""
    return (
        select(repositories.c.id)
        .select_from(repositories.join(tenants, tenants.c.id == repositories.c.tenant_id))
        .where(
            repositories.c.tenant_id == manifests.c.tenant_id,
            repositories.c.id == manifests.c.repository_id,
            repositories.c.deleted_at.is_(None),
            func.coalesce(repositories.c.untagged, tenants.c.untagged) == _COLLECT,
        )
        .exists()
    )


_judged = (
    select(
        *_key,
        NEEDED.label("needed"),
        func.greatest(manifests.c.pushed_at, manifests.c.promised_at, type_=DateTime(timezone=True)).label("pushed_at"),
        _untagged_at.label("untagged_at"),
    )
    .where(*_wanted, _collects())
    .limit(ONE)
    .lateral("manifest")
)

JUDGE_MANIFESTS: Final = statement(
    "judge_manifests",
    "Which of some manifests are live in repositories that collect untagged ones, and whether anything holds them.",
    select(*_judged.c).select_from(_keys.join(_judged, true())),
    JudgedManifestRow,
)


async def lock_candidates(tx: Transaction, rows: Sequence[QueuedRow]) -> set[tuple[int, int, Digest | None]]:
    """Keys of those that are locked now."""
    locked = await tx.all(LOCK_CANDIDATES, **entry_arrays(rows))
    return {(row.tenant_id, row.repository_id, row.digest) for row in locked}


async def judge_manifests(
    tx: Transaction, rows: Sequence[QueuedRow], *, restore_period: timedelta
) -> list[JudgedManifestRow]:
    """Those that may be collected at all, locked or not."""
    return await tx.all(JUDGE_MANIFESTS, restore_period=restore_period, **entry_arrays(rows))


# -- referrers of what was deleted ------------------------------------------------------------------------------------

_deleted_subject = (
    select(_subjects.c.digest)
    .where(
        _subjects.c.tenant_id == _keys.c.tenant_id,
        _subjects.c.repository_id == _keys.c.repository_id,
        _subjects.c.digest == _keys.c.digest,
        _subjects.c.deleted_at.is_(None),
    )
    .exists()
)
_follower = and_(
    descriptors.c.tenant_id == _keys.c.tenant_id,
    descriptors.c.digest == _keys.c.digest,
    descriptors.c.repository_id == _keys.c.repository_id,
    descriptors.c.role == _SUBJECT,
)
_of_subject = (
    manifests.c.tenant_id == descriptors.c.tenant_id,
    manifests.c.repository_id == descriptors.c.repository_id,
    manifests.c.digest == descriptors.c.manifest_digest,
    manifests.c.deleted_at.is_(None),
)

LOCK_FOLLOWERS: Final = statement(
    "lock_followers",
    "Referrers of deleted manifests that nothing else seems to hold; those that somebody works with are left.",
    select(*_key)
    .select_from(_keys.join(descriptors, _follower).join(manifests, and_(*_of_subject)))
    .where(~_deleted_subject, ~_tagged, ~_has_parent)
    .limit(LIMIT)
    .with_for_update(of=manifests, skip_locked=True),
    FollowerRow,
)

_locked_followers = (
    select(*_key, manifests.c.subject_digest, manifests.c.promised_at)
    .where(*_wanted, ~NEEDED)
    .limit(ONE)
    .lateral("manifest")
)

JUDGE_FOLLOWERS: Final = statement(
    "judge_followers",
    "Those of the locked referrers that nothing holds indeed.",
    select(*_locked_followers.c).select_from(_keys.join(_locked_followers, true())),
    JudgedFollowerRow,
)


async def lock_followers(tx: Transaction, rows: Sequence[QueuedRow], *, limit: int) -> list[FollowerRow]:
    """Referrers of the manifests, as far as these are still deleted."""
    return await tx.all(LOCK_FOLLOWERS, limit=limit, **entry_arrays(rows))


async def judge_followers(tx: Transaction, rows: Sequence[FollowerRow]) -> list[JudgedFollowerRow]:
    """Those of the locked ones that go with their subjects."""
    if not rows:
        return []
    arrays = {name: [getattr(row, name) for row in rows] for name in FollowerRow._fields}
    return await tx.all(JUDGE_FOLLOWERS, **{f"{name}s": values for name, values in arrays.items()})


# -- rows of what was deleted -----------------------------------------------------------------------------------------

_purged = (
    delete(manifests)
    .where(tuple_(*_key).in_(select(*_keys.c)), manifests.c.deleted_at <= func.now() - _RESTORE)
    .returning(manifests.c.tenant_id, manifests.c.digest)
    .cte("purged")
)
_kept_key = (kept_references.c.tenant_id, kept_references.c.repository_id, kept_references.c.manifest_digest)
_released = (
    delete(kept_references)
    # Also of one that is live again: what an earlier deletion of it kept.
    .where(tuple_(*_kept_key).in_(select(*_keys.c)), kept_references.c.deleted_at <= func.now() - _RESTORE)
    .returning(kept_references.c.tenant_id, kept_references.c.digest)
    .cte("released")
)

PURGE_MANIFESTS: Final = statement(
    "purge_manifests",
    "Manifests that can't be restored any more, with all that hangs on them; what they kept may be garbage.",
    select(_purged.c.digest).add_cte(
        _released, queued(queueing("blob", tenant_id=_released.c.tenant_id, digest=_released.c.digest)).cte("queued")
    ),
    PurgedManifestRow,
)


async def purge_manifests(tx: Transaction, rows: Sequence[QueuedRow], *, restore_period: timedelta) -> int:
    """How many manifests went."""
    return len(await tx.all(PURGE_MANIFESTS, restore_period=restore_period, **entry_arrays(rows)))


# -- when a tenant or repository begins to collect --------------------------------------------------------------------

_untagged = (
    manifests.c.tenant_id == TENANT_ID,
    or_(literal_column("0", BigInteger()) == REPOSITORY_ID, manifests.c.repository_id == REPOSITORY_ID),
    manifests.c.deleted_at.is_(None),
    _collects(),
    ~NEEDED,
)

QUEUE_UNTAGGED: Final = statement(
    "queue_untagged",
    "All manifests of a tenant or repository that nothing holds, as far as it collects them from now on.",
    queued(
        queueing(
            "manifest",
            tenant_id=manifests.c.tenant_id,
            repository_id=manifests.c.repository_id,
            digest=manifests.c.digest,
        ).where(*_untagged)
    ),
    Nothing,
)


def queue_untagged_manifests(tx: Transaction, *, tenant_id: int, repository_id: int) -> None:
    """Queues what the new setting is about; of all repositories, where the id is 0."""
    tx.queue(QUEUE_UNTAGGED, tenant_id=tenant_id, repository_id=repository_id)
