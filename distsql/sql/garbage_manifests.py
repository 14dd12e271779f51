"""Manifests that may be garbage: looked at, and then locked and judged. Statements."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Interval,
    Select,
    Text,
    and_,
    case,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
)

from distsql.oci.digest import Digest
from distsql.sql.garbage import entry_arrays
from distsql.sql.garbage_queue import QueuedRow, queued, queueing
from distsql.sql.manifest_deletions import PLACE, ManifestKeyRow, key_arrays
from distsql.sql.statements import (
    DIGESTS,
    LIMIT,
    ONE,
    REPOSITORY_ID,
    TENANT_ID,
    Nothing,
    parameter,
    statement,
    unnested,
)
from distsql.sql.tables import descriptors, manifests, repositories, tags, tenants
from distsql.sql.transactions import Transaction
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


class LockedManifestRow(NamedTuple):
    """A live manifest that is locked; ``pushed_at`` as in `JudgedManifestRow`, ``promised_at`` of that if it was told.

    ``place`` is where its row is.
    """

    tenant_id: int
    repository_id: int
    digest: Digest
    place: str
    subject_digest: Digest | None
    pushed_at: datetime
    promised_at: datetime | None

    @property
    def key(self) -> ManifestKeyRow:
        """Its key alone."""
        return ManifestKeyRow(self.tenant_id, self.repository_id, self.digest)


class FollowerRow(NamedTuple):
    """A referrer of a manifest that was deleted."""

    tenant_id: int
    repository_id: int
    digest: Digest
    subject_digest: Digest

    @property
    def key(self) -> ManifestKeyRow:
        """Its key alone."""
        return ManifestKeyRow(self.tenant_id, self.repository_id, self.digest)


class HeldManifestRow(NamedTuple):
    """Whether anything holds a locked manifest, and when it was last tagged."""

    tenant_id: int
    repository_id: int
    digest: Digest
    needed: bool
    untagged_at: datetime | None


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
# When it was pushed, or somebody was told since that it is there.
_pushed_at = func.greatest(manifests.c.pushed_at, manifests.c.promised_at, type_=DateTime(timezone=True)).label(
    "pushed_at"
)
_locked = (
    select(*_key, PLACE, manifests.c.subject_digest, _pushed_at, manifests.c.promised_at)
    .where(*_wanted)
    .limit(ONE)
    .with_for_update(skip_locked=True)
    .lateral("manifest")
)

LOCK_CANDIDATES: Final = statement(
    "lock_candidates",
    "Those of some live manifests that nobody works with just now: nobody can refer to them from here on.",
    select(*_locked.c).select_from(_keys.join(_locked, true())),
    LockedManifestRow,
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


def _with_untagged_at(judged: Select[Any]) -> Select[Any]:
    """The same rows, and of those that nothing holds when the last tag was moved away from them or ended.

    It can go back for as long as anything is restored. All that a repository's tags ever were is read for that: once
    for all of its manifests, and not where each of them is held.
    """
    each = judged.cte("judged")
    places = select(each.c.tenant_id, each.c.repository_id).where(~each.c.needed).distinct().subquery("place")
    left = (
        select(tags.c.digest, func.max(tags.c.valid_to).label("at"))
        .where(
            tags.c.tenant_id == places.c.tenant_id,
            tags.c.repository_id == places.c.repository_id,
            tags.c.digest == func.any(DIGESTS),
            tags.c.valid_to > func.now() - _RESTORE,
        )
        .group_by(tags.c.digest)
        .lateral("ended")
    )
    untagged = select(places.c.tenant_id, places.c.repository_id, left.c.digest, left.c.at)
    ended = untagged.select_from(places.join(left, true())).subquery("untagged")
    return select(*each.c, case((each.c.needed, null()), else_=ended.c.at).label("untagged_at")).select_from(
        each.outerjoin(
            ended,
            and_(
                ended.c.tenant_id == each.c.tenant_id,
                ended.c.repository_id == each.c.repository_id,
                ended.c.digest == each.c.digest,
            ),
        )
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
        _pushed_at,
    )
    .where(*_wanted, _collects())
    .limit(ONE)
    .lateral("manifest")
)

JUDGE_MANIFESTS: Final = statement(
    "judge_manifests",
    "Which of some manifests are live in repositories that collect untagged ones, and whether anything holds them.",
    _with_untagged_at(select(*_judged.c).select_from(_keys.join(_judged, true()))),
    JudgedManifestRow,
)


_candidates = unnested(
    {"tenant_id": BigInteger(), "repository_id": BigInteger(), "digest": DigestType(), "subject_digest": DigestType()}
)
_candidate = _candidates.c
_held = or_(
    select(tags.c.name)
    .where(
        tags.c.tenant_id == _candidate.tenant_id,
        tags.c.repository_id == _candidate.repository_id,
        tags.c.live_digest == _candidate.digest,
    )
    .correlate(_candidates)
    .exists(),
    select(descriptors.c.digest)
    .where(
        descriptors.c.tenant_id == _candidate.tenant_id,
        descriptors.c.digest == _candidate.digest,
        descriptors.c.repository_id == _candidate.repository_id,
        descriptors.c.role != _SUBJECT,
    )
    .correlate(_candidates)
    .exists(),
    select(manifests.c.digest)
    .where(
        manifests.c.tenant_id == _candidate.tenant_id,
        manifests.c.repository_id == _candidate.repository_id,
        manifests.c.digest == _candidate.subject_digest,
        manifests.c.deleted_at.is_(None),
    )
    .correlate(_candidates)
    .exists(),
)
# With a limit, so that each is looked up by itself: else PostgreSQL may read all references there are, once for all.
_judged_one = select(_held.label("needed")).limit(ONE).correlate(_candidates).lateral("judged")

JUDGE_LOCKED: Final = statement(
    "judge_locked",
    "Whether anything holds these manifests, which are locked, and when the last of their tags left them.",
    _with_untagged_at(
        select(_candidate.tenant_id, _candidate.repository_id, _candidate.digest, _judged_one.c.needed).select_from(
            _candidates.join(_judged_one, true())
        )
    ),
    HeldManifestRow,
)


async def judge_manifests(
    tx: Transaction, rows: Sequence[QueuedRow], *, restore_period: timedelta
) -> list[JudgedManifestRow]:
    """Those that may be collected at all, as it seems: `judge_locked` knows."""
    return await tx.all(JUDGE_MANIFESTS, restore_period=restore_period, **entry_arrays(rows))


async def lock_candidates(tx: Transaction, keys: Sequence[ManifestKeyRow]) -> list[LockedManifestRow]:
    """Those that are live, and locked now."""
    return await tx.all(LOCK_CANDIDATES, **key_arrays(keys))


async def judge_locked(
    tx: Transaction, rows: Sequence[LockedManifestRow], *, restore_period: timedelta
) -> dict[ManifestKeyRow, HeldManifestRow]:
    """What holds those that this transaction has locked: seen by a statement of its own, and so all of it."""
    if not rows:
        return {}
    judged = await tx.all(
        JUDGE_LOCKED,
        restore_period=restore_period,
        subject_digests=[row.subject_digest for row in rows],
        **key_arrays([row.key for row in rows]),
    )
    return {ManifestKeyRow(row.tenant_id, row.repository_id, row.digest): row for row in judged}


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

LIST_UNHELD_FOLLOWERS: Final = statement(
    "list_unheld_followers",
    "Referrers of deleted manifests that nothing else seems to hold.",
    select(*_key, manifests.c.subject_digest)
    .select_from(_keys.join(descriptors, _follower).join(manifests, and_(*_of_subject)))
    .where(~_deleted_subject, ~_tagged, ~_has_parent)
    .limit(LIMIT),
    FollowerRow,
)


async def list_unheld_followers(tx: Transaction, rows: Sequence[QueuedRow], *, limit: int) -> list[FollowerRow]:
    """Referrers of the manifests, as far as these are still deleted."""
    return await tx.all(LIST_UNHELD_FOLLOWERS, limit=limit, **entry_arrays(rows))


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
