"""Manifests with their descriptors and annotations: statements."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Interval,
    LargeBinary,
    Select,
    TableValuedAlias,
    Text,
    column,
    func,
    literal_column,
    null,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import TypeEngine

from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest
from distsql.oci.names import RepositoryName
from distsql.sql.manifest_references import REFERENCES, descriptor_arrays, insert_annotations
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import (
    ASKER,
    DIGEST,
    LIMIT,
    ONE,
    REPOSITORY_ID,
    TENANT_ID,
    Nothing,
    asked_statement,
    name_parameters,
    named_repository,
    parameter,
    statement,
    unnested,
)
from distsql.sql.tables import layers, manifests, tags
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType


class ManifestRow(NamedTuple):
    """A manifest as it is served."""

    digest: Digest
    media_type: str
    payload: bytes


class FoundManifestRow(NamedTuple):
    """A manifest as it is served. One that is ``doubtful`` is old, and may go if nothing holds it (`promises`)."""

    digest: Digest
    media_type: str
    payload: bytes
    doubtful: bool


class DigestRow(NamedTuple):
    """A digest that was found."""

    digest: Digest


class InUseRow(NamedTuple):
    """Content that something refers to, and what."""

    digest: Digest
    referrer: Digest


_FRESH: Final = parameter("fresh", Interval())
_packed: Final = attrgetter("packed")  # orders digests five times faster than their own comparison
_SERVED: Final = (manifests.c.digest, manifests.c.media_type, manifests.c.payload)
_HERE: Final = (manifests.c.tenant_id == TENANT_ID, manifests.c.repository_id == REPOSITORY_ID)

# -- reading ----------------------------------------------------------------------------------------------------------


def _write_tagged(asked: TableValuedAlias) -> Select[Any]:
    joined, repository = named_repository(asked)
    tag = (
        select(tags.c.digest)
        .where(
            tags.c.tenant_id == repository.c.tenant_id,
            tags.c.repository_id == repository.c.id,
            tags.c.name == asked.c.tag,
            tags.c.valid_to.is_(None),
        )
        .limit(ONE)
        .lateral("tag")
    )
    found = (
        select(*_SERVED)
        .where(
            manifests.c.tenant_id == repository.c.tenant_id,
            manifests.c.repository_id == repository.c.id,
            manifests.c.digest == tag.c.digest,
        )
        .limit(ONE)
        .lateral("manifest")
    )
    return select(asked.c[ASKER], found.c.digest, found.c.media_type, found.c.payload).select_from(
        joined.join(tag, true()).join(found, true())
    )


FIND_TAGGED_MANIFEST: Final = asked_statement(
    "find_tagged_manifest",
    "GET or HEAD of a manifest by tag: the hottest read, one statement from names to payload.",
    _write_tagged,
    ManifestRow,
    asking={"tag": Text()},
)


async def find_tagged_manifest(tx: Transaction, name: RepositoryName, tag: str) -> ManifestRow | None:
    """The manifest that a live tag points to."""
    return await tx.one(FIND_TAGGED_MANIFEST, **name_parameters(name), tag=tag)


def _write_by_digest(asked: TableValuedAlias) -> Select[Any]:
    joined, repository = named_repository(asked)
    # Only what the row says, for every read pays it: collection takes what is untagged, where that is wanted, and
    # referrers of subjects that were deleted.
    doubtful = (func.greatest(manifests.c.pushed_at, manifests.c.promised_at) <= func.now() - _FRESH) & (
        repository.c.collecting | manifests.c.subject_digest.is_not(None)
    )
    found = (
        select(*_SERVED, doubtful.label("doubtful"))
        .where(
            manifests.c.tenant_id == repository.c.tenant_id,
            manifests.c.repository_id == repository.c.id,
            manifests.c.digest == asked.c.digest,
            manifests.c.deleted_at.is_(None),
        )
        .limit(ONE)
        .lateral("manifest")
    )
    return select(asked.c[ASKER], found.c.digest, found.c.media_type, found.c.payload, found.c.doubtful).select_from(
        joined.join(found, true())
    )


FIND_MANIFEST: Final = asked_statement(
    "find_manifest",
    "GET or HEAD of a manifest by digest.",
    _write_by_digest,
    FoundManifestRow,
    asking={"digest": DigestType()},
)


async def find_manifest(
    tx: Transaction, name: RepositoryName, digest: Digest, *, fresh: timedelta
) -> FoundManifestRow | None:
    """The manifest of this digest; doubtful if nobody pushed it or was told of it for longer than ``fresh``."""
    return await tx.one(FIND_MANIFEST, **name_parameters(name), digest=digest, fresh=fresh)


LIST_MANIFESTS: Final = statement(
    "list_manifests",
    "A page of a repository's manifests, by digest.",
    select(*_SERVED)
    .where(*_HERE, manifests.c.digest > parameter("after", LargeBinary()), manifests.c.deleted_at.is_(None))
    .order_by(manifests.c.digest)
    .limit(LIMIT),
    ManifestRow,
)


async def list_manifests(
    tx: Transaction, repository: RepositoryRow, *, after: Digest | None, limit: int
) -> list[ManifestRow]:
    """Manifests behind ``after``."""
    return await tx.all(
        LIST_MANIFESTS,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        after=after.packed if after else b"",
        limit=limit,
    )


# -- writing ----------------------------------------------------------------------------------------------------------

# One by one, in the order of the arrays, which are sorted: pushes that share content lock it in the same order.
_wanted_manifests = unnested({"manifest_digest": DigestType()})
_held_manifest = (
    select(manifests.c.digest)
    .where(*_HERE, manifests.c.digest == _wanted_manifests.c.manifest_digest, manifests.c.deleted_at.is_(None))
    .limit(ONE)
    .with_for_update(read=True)  # deleting updates the row: a key share would not keep it away
    .lateral("manifest")
)
_wanted_layers = unnested({"digest": DigestType()})
_held_layer = (
    select(layers.c.digest)
    .where(
        layers.c.tenant_id == TENANT_ID,
        layers.c.repository_id == REPOSITORY_ID,
        layers.c.digest == _wanted_layers.c.digest,
    )
    .limit(ONE)
    .with_for_update(key_share=True, read=True)
    .lateral("layer")
)

LOCK_REFERENCES: Final = statement(
    "lock_references",
    "Which of these manifests and blobs the repository has; they stay until the end of the transaction.",
    union_all(
        select(_held_manifest.c.digest).select_from(_wanted_manifests.join(_held_manifest, true())),
        select(_held_layer.c.digest).select_from(_wanted_layers.join(_held_layer, true())),
    ),
    DigestRow,
)


async def lock_references(
    tx: Transaction, repository: RepositoryRow, *, manifests: Collection[Digest], blobs: Collection[Digest]
) -> set[Digest]:
    """Which of the manifests and of the blobs the repository has; those stay at least as long as the transaction."""
    found = await tx.all(
        LOCK_REFERENCES,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        digests=sorted(blobs, key=_packed),
        manifest_digests=sorted(manifests, key=_packed),
    )
    return {row.digest for row in found}


_MANIFEST_COLUMNS: Final[dict[str, TypeEngine[Any]]] = {
    "digest": DigestType(),
    "media_type": Text(),
    "artifact_type": Text(),
    "config_media_type": Text(),
    "subject_digest": DigestType(),
    "length": BigInteger(),
    "payload": LargeBinary(),
    "pushed_by": Text(),
}
_pushed = unnested(_MANIFEST_COLUMNS, suffix="_each")
_new_manifests = insert(manifests).from_select(
    ["tenant_id", "repository_id", *_MANIFEST_COLUMNS],
    select(TENANT_ID, REPOSITORY_ID, *(_pushed.c[name] for name in _MANIFEST_COLUMNS)),
)

_put_manifests = _new_manifests.on_conflict_do_update(
    index_elements=[manifests.c.tenant_id, manifests.c.repository_id, manifests.c.digest],
    set_={
        **{name: _new_manifests.excluded[name] for name in ("media_type", "length", "payload", "pushed_by")},
        "pushed_at": func.now(),
        "deleted_at": null(),
        "deleted_by": null(),
        "followed_digest": null(),
        "deleted_signatures": null(),
        "deleted_tags": null(),
    },
    # A live one was pushed by somebody else just now: its descriptors conflict, and all of this is tried again.
    where=manifests.c.deleted_at.is_not(None),
)

INSERT_MANIFESTS: Final = statement(
    "insert_manifests",
    "New manifests, or some that were deleted and are pushed again, with their references.",
    _put_manifests.add_cte(REFERENCES),
    Nothing,
)

INSERT_BARE_MANIFESTS: Final = statement(
    "insert_bare_manifests",
    "As insert_manifests, for those that refer to nothing; which of them nobody else was faster with.",
    _put_manifests.returning(manifests.c.digest),
    DigestRow,
)


def insert_manifests(
    tx: Transaction, repository: RepositoryRow, pushed: Collection[tuple[ParsedManifest, str]]
) -> None:
    """New manifests and who pushes them, with everything that is read of them later: payloads are never parsed again.

    Each refers to something, and no two are the same.
    """
    if pushed:
        made = [manifest for manifest, _ in pushed]
        tx.queue(INSERT_MANIFESTS, **_new_rows(repository, pushed), **descriptor_arrays(made))
        insert_annotations(tx, repository, made)


async def insert_bare_manifests(
    tx: Transaction, repository: RepositoryRow, pushed: Collection[tuple[ParsedManifest, str]]
) -> set[Digest]:
    """As `insert_manifests`, for those that refer to nothing: which of them nobody else was faster with.

    With others their references would conflict, and all would be tried again.
    """
    rows = await tx.all(INSERT_BARE_MANIFESTS, **_new_rows(repository, pushed)) if pushed else []
    inserted = {row.digest for row in rows}
    insert_annotations(tx, repository, [manifest for manifest, _ in pushed if manifest.digest in inserted])
    return inserted


def _new_rows(repository: RepositoryRow, pushed: Collection[tuple[ParsedManifest, str]]) -> dict[str, object]:
    # In the order of their digests, so that two transactions that bring the same ones wait for each other in one order.
    ordered = sorted(pushed, key=lambda each: each[0].digest.packed)
    columns = zip(*(_new_row(manifest, actor) for manifest, actor in ordered), strict=True)
    arrays = {f"{name}_each": values for name, values in zip(_MANIFEST_COLUMNS, columns, strict=True)}
    return {"tenant_id": repository.tenant_id, "repository_id": repository.id, **arrays}


def _new_row(manifest: ParsedManifest, actor: str) -> tuple[object, ...]:
    """In the order of the columns."""
    return (
        manifest.digest,
        manifest.media_type,
        manifest.artifact_type,
        manifest.config_media_type,
        manifest.subject.digest if manifest.subject else None,
        len(manifest.payload),
        manifest.payload,
        actor,
    )


_needed = func.needed_by(
    TENANT_ID, REPOSITORY_ID, func.array_append(literal_column("'{}'::bytea[]", ARRAY(DigestType())), DIGEST)
).table_valued(column("digest", DigestType()), column("manifest_digest", DigestType()), name="needed")

FIND_PARENT: Final = statement(
    "find_parent",
    "Which manifest of the repository needs this content.",
    select(_needed.c.digest, _needed.c.manifest_digest).limit(ONE),
    InUseRow,
)


async def find_parent(tx: Transaction, repository: RepositoryRow, digest: Digest) -> Digest | None:
    """A manifest that has this blob or manifest among its references, or None."""
    row = await tx.one(FIND_PARENT, tenant_id=repository.tenant_id, repository_id=repository.id, digest=digest)
    return row.referrer if row else None
