"""Tags and their history: statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, DateTime, Text, func, literal_column, or_, select, text, true, update
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.digest import Digest
from distsql.sql.garbage_queue import queued, queueing
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import (
    ACTOR,
    LIMIT,
    ONE,
    REPOSITORY_ID,
    TENANT_ID,
    parameter,
    statement,
    unnested,
)
from distsql.sql.tables import manifests, tags
from distsql.sql.tenant_tables import tenant_usage
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType
from distsql.sql.usage import SLOT, adding


class TagRow(NamedTuple):
    """A tag's name."""

    name: str


class TaggedRow(NamedTuple):
    """What a live tag points to."""

    digest: Digest
    media_type: str
    length: int
    artifact_type: str | None


class TagMoveRow(NamedTuple):
    """One entry of a tag's history."""

    digest: Digest
    valid_from: datetime
    valid_to: datetime | None
    actor: str
    ended_by: str | None


class TargetRow(NamedTuple):
    """A digest that a tag points or pointed to."""

    digest: Digest


_NAME: Final = parameter("name", Text(collation="C"))
_MANIFESTS: Final = parameter("new_manifests", BigInteger())
_AT: Final = parameter("at", DateTime(timezone=True))
_HERE: Final = (tags.c.tenant_id == TENANT_ID, tags.c.repository_id == REPOSITORY_ID)
_LIVE: Final = tags.c.valid_to.is_(None)
# Later than what it ends, also when the clock was set back.
END_NOW: Final = func.greatest(func.clock_timestamp(), tags.c.valid_from + text("interval '1 microsecond'"))

# -- reading ----------------------------------------------------------------------------------------------------------

_tag = select(tags.c.digest).where(*_HERE, tags.c.name == _NAME, _LIVE).limit(ONE).subquery("tag")
_tagged = (
    select(manifests.c.digest, manifests.c.media_type, manifests.c.length, manifests.c.artifact_type)
    .where(
        manifests.c.tenant_id == TENANT_ID,
        manifests.c.repository_id == REPOSITORY_ID,
        manifests.c.digest == _tag.c.digest,
    )
    .limit(ONE)
    .lateral("manifest")
)

FIND_TAG: Final = statement(
    "find_tag",
    "What a live tag points to, without the payload.",
    select(_tagged.c.digest, _tagged.c.media_type, _tagged.c.length, _tagged.c.artifact_type).select_from(
        _tag.join(_tagged, true())
    ),
    TaggedRow,
)


async def find_tag(tx: Transaction, repository: RepositoryRow, name: str) -> TaggedRow | None:
    """What the tag points to, or None when there is no such live tag."""
    return await tx.one(FIND_TAG, tenant_id=repository.tenant_id, repository_id=repository.id, name=name)


LIST_TAG_MOVES: Final = statement(
    "list_tag_moves",
    "A page of a tag's history, newest first.",
    select(tags.c.digest, tags.c.valid_from, tags.c.valid_to, tags.c.actor, tags.c.ended_by)
    .where(*_HERE, tags.c.name == _NAME, tags.c.valid_from < parameter("before", DateTime(timezone=True)))
    .order_by(tags.c.valid_from.desc())
    .limit(LIMIT),
    TagMoveRow,
)


async def list_tag_moves(
    tx: Transaction, repository: RepositoryRow, name: str, *, before: datetime, limit: int
) -> list[TagMoveRow]:
    """Entries of the tag's history that began before the instant."""
    return await tx.all(
        LIST_TAG_MOVES,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        name=name,
        before=before,
        limit=limit,
    )


RESOLVE_TAG: Final = statement(
    "resolve_tag",
    "What a tag pointed to at an instant.",
    select(tags.c.digest)
    .where(*_HERE, tags.c.name == _NAME, tags.c.valid_from <= _AT, or_(_LIVE, tags.c.valid_to > _AT))
    .order_by(tags.c.valid_from.desc())
    .limit(ONE),
    TargetRow,
)


async def resolve_tag(tx: Transaction, repository: RepositoryRow, name: str, *, at: datetime) -> Digest | None:
    """The digest that the tag pointed to then, or None."""
    row = await tx.one(RESOLVE_TAG, tenant_id=repository.tenant_id, repository_id=repository.id, name=name, at=at)
    return row.digest if row else None


# -- writing ----------------------------------------------------------------------------------------------------------

# A move updates the live row in place, under its lock, and writes what the row was before as a closed row of the
# history: so there is one live row at any instant, writers queue up on it, and no move is missing from the history.
_HISTORY: Final = ["tenant_id", "repository_id", "name", "digest", "valid_from", "valid_to", "actor", "ended_by"]
_new = unnested({"name": Text(), "digest": DigestType(), "actor": Text()}, suffix="_each")
_earlier = tags.alias("earlier")
_last_end = (
    select(_earlier.c.valid_to)
    .where(_earlier.c.tenant_id == TENANT_ID, _earlier.c.repository_id == REPOSITORY_ID, _earlier.c.name == _new.c.name)
    .order_by(_earlier.c.valid_from.desc())
    .limit(ONE)
    .scalar_subquery()
)
_upsert = insert(tags).from_select(
    ["tenant_id", "repository_id", "name", "digest", "valid_from", "actor"],
    # A tag that ended begins again where it ended at the earliest: the clock may have been set back.
    select(
        TENANT_ID,
        REPOSITORY_ID,
        _new.c.name,
        _new.c.digest,
        func.greatest(func.clock_timestamp(), _last_end),
        _new.c.actor,
    ).order_by(_new.c.name),
)
_MOVE: Final = {
    "digest": _upsert.excluded.digest,
    "actor": _upsert.excluded.actor,
    "valid_from": END_NOW,
    "previous_digest": tags.c.digest,
    "previous_from": tags.c.valid_from,
    "previous_actor": tags.c.actor,
}
_moved = (
    _upsert.on_conflict_do_update(
        index_elements=[tags.c.tenant_id, tags.c.repository_id, tags.c.name],
        index_where=text("valid_to is null"),
        set_=_MOVE,
        where=tags.c.digest != _upsert.excluded.digest,
    )
    .returning(tags)
    .cte("moved")
)

_made = (
    select(TENANT_ID, SLOT, _MANIFESTS, func.count())
    .select_from(_moved)
    .where(_moved.c.previous_digest.is_(None))
    .having((func.count() + _MANIFESTS) > literal_column("0", BigInteger()))
)
_left = queued(
    queueing(
        "manifest", tenant_id=_moved.c.tenant_id, repository_id=_moved.c.repository_id, digest=_moved.c.previous_digest
    ).where(_moved.c.previous_digest.is_not(None))
).cte("left_behind")
_counted = adding(insert(tenant_usage).from_select(["tenant_id", "slot", "manifests", "tags"], _made)).cte("counted")

_HISTORY_OF_MOVED: Final = select(
    _moved.c.tenant_id,
    _moved.c.repository_id,
    _moved.c.name,
    _moved.c.previous_digest,
    _moved.c.previous_from,
    _moved.c.valid_from,
    _moved.c.previous_actor,
    _moved.c.actor,
).where(_moved.c.previous_digest.is_not(None))

POINT_TAGS: Final = statement(
    "point_tags",
    "Tags that now point to other manifests; what they were before goes into their history, and who is new is counted.",
    insert(tags).add_cte(_counted).from_select(_HISTORY, _HISTORY_OF_MOVED).returning(tags.c.name),
    TagRow,
)

POINT_TAGS_AND_QUEUE: Final = statement(
    "point_tags_and_queue",
    "As point_tags, where untagged manifests are collected: what the tags pointed to before may be garbage.",
    insert(tags).add_cte(_counted, _left).from_select(_HISTORY, _HISTORY_OF_MOVED).returning(tags.c.name),
    TagRow,
)


class TagTarget(NamedTuple):
    """What a tag is to point to, and by whose doing."""

    tag: str
    digest: Digest
    actor: str


def targets(names: Iterable[str], *, digest: Digest, actor: str) -> list[TagTarget]:
    """All the tags to one manifest."""
    return [TagTarget(name, digest, actor) for name in names]


def point_tags(
    tx: Transaction,
    repository: RepositoryRow,
    targets: Sequence[TagTarget],
    *,
    new_manifests: int = 0,
    collecting: bool = False,
) -> None:
    """Points each of the tags, none of them twice, to a manifest that exists, whatever it pointed to.

    What is new is counted: the tags, and as many manifests. What they pointed to is queued where it is collected.
    """
    tx.queue(
        POINT_TAGS_AND_QUEUE if collecting else POINT_TAGS,
        **_pointing(repository, targets),
        slot=tx.slot,
        new_manifests=new_manifests,
    )


async def move_tags(
    tx: Transaction,
    repository: RepositoryRow,
    targets: Sequence[TagTarget],
    *,
    new_manifests: int = 0,
    collecting: bool = False,
) -> list[str]:
    """As `point_tags`, and gives those tags that pointed to something else before."""
    rows = await tx.all(
        POINT_TAGS_AND_QUEUE if collecting else POINT_TAGS,
        **_pointing(repository, targets),
        slot=tx.slot,
        new_manifests=new_manifests,
    )
    return [row.name for row in rows]


def _pointing(repository: RepositoryRow, targets: Sequence[TagTarget]) -> dict[str, object]:
    names, digests, actors = zip(*targets, strict=True)
    return {
        "tenant_id": repository.tenant_id,
        "repository_id": repository.id,
        "name_each": names,
        "digest_each": digests,
        "actor_each": actors,
    }


LOCK_TAG: Final = statement(
    "lock_tag",
    "What a tag points to, kept so until the end of the transaction.",
    select(tags.c.digest).where(*_HERE, tags.c.name == _NAME, _LIVE).with_for_update(),
    TargetRow,
)


async def lock_tag(tx: Transaction, repository: RepositoryRow, name: str) -> Digest | None:
    """The digest that the tag points to, or None. Nobody moves it before the end of the transaction."""
    row = await tx.one(LOCK_TAG, tenant_id=repository.tenant_id, repository_id=repository.id, name=name)
    return row.digest if row else None


CREATE_TAGS: Final = statement(
    "create_tags",
    "Tags that must not exist yet.",
    _upsert.on_conflict_do_nothing(
        index_elements=[tags.c.tenant_id, tags.c.repository_id, tags.c.name], index_where=text("valid_to is null")
    ).returning(tags.c.name),
    TagRow,
)


async def create_tags(tx: Transaction, repository: RepositoryRow, targets: Sequence[TagTarget]) -> list[str]:
    """Those of the tags that were made: the others are live."""
    return [row.name for row in await tx.all(CREATE_TAGS, **_pointing(repository, targets))]


_ended = (
    update(tags)
    .where(*_HERE, tags.c.name == _NAME, _LIVE)
    .values(valid_to=END_NOW, ended_by=ACTOR)
    .returning(tags.c.tenant_id, tags.c.repository_id, tags.c.digest)
    .cte("ended")
)

END_TAG: Final = statement(
    "end_tag",
    "A tag ends; its row becomes history. Its manifest may be garbage.",
    select(_ended.c.digest).add_cte(
        queued(
            queueing(
                "manifest", tenant_id=_ended.c.tenant_id, repository_id=_ended.c.repository_id, digest=_ended.c.digest
            )
        ).cte("queued")
    ),
    TargetRow,
)


async def end_tag(tx: Transaction, repository: RepositoryRow, name: str, *, actor: str) -> Digest | None:
    """What the tag pointed to until now, or None when it was not live."""
    row = await tx.one(END_TAG, tenant_id=repository.tenant_id, repository_id=repository.id, name=name, actor=actor)
    return row.digest if row else None
