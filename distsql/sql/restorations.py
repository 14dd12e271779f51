"""What was deleted and can be given back: statements."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    DateTime,
    Interval,
    Text,
    delete,
    func,
    literal_column,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.digest import Digest
from distsql.sql.garbage_tables import kept_references
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import (
    ACTOR,
    DIGEST,
    DIGESTS,
    ONE,
    PATH,
    REPOSITORY_ID,
    TENANT,
    TENANT_ID,
    parameter,
    statement,
    unnested,
)
from distsql.sql.tables import blobs, layers, manifests, repositories, tags, tenants
from distsql.sql.transactions import Transaction
from distsql.sql.usage import add_usage


class DeletedManifestRow(NamedTuple):
    """A manifest that can be restored, with its payload; without ``tags`` an earlier version deleted it."""

    digest: Digest
    media_type: str
    payload: bytes
    deleted_at: datetime
    deleted_by: str
    signatures: list[bytes] | None
    tags: list[str] | None


class LinkedRow(NamedTuple):
    """A blob that the repository has again."""

    digest: Digest


class EndedTagRow(NamedTuple):
    """A tag that ended with its manifest."""

    name: str


class RestoredRow(NamedTuple):
    """A repository that is there again, and what counts of it again."""

    tenant_id: int
    id: int
    manifests: int
    tags: int


_PERIOD: Final = parameter("restore_period", Interval())
_SINCE: Final = func.now() - _PERIOD
_HERE: Final = (manifests.c.tenant_id == TENANT_ID, manifests.c.repository_id == REPOSITORY_ID)
_MANIFEST: Final = (
    manifests.c.digest,
    manifests.c.media_type,
    manifests.c.payload,
    manifests.c.deleted_at,
    manifests.c.deleted_by,
    manifests.c.deleted_signatures,
    manifests.c.deleted_tags,
)

# -- manifests --------------------------------------------------------------------------------------------------------

FIND_DELETED_MANIFEST: Final = statement(
    "find_deleted_manifest",
    "A manifest that was deleted and can be restored.",
    select(*_MANIFEST).where(*_HERE, manifests.c.digest == DIGEST, manifests.c.deleted_at > _SINCE),
    DeletedManifestRow,
)

LOCK_DELETED_MANIFEST: Final = statement(
    "lock_deleted_manifest",
    "A deleted manifest that nobody else restores, pushes again or takes out before the end of the transaction.",
    select(*_MANIFEST).where(*_HERE, manifests.c.digest == DIGEST, manifests.c.deleted_at > _SINCE).with_for_update(),
    DeletedManifestRow,
)

# By what they keep, each once: an index on their rows would be one more for every push to write and to lock.
_referrer = (
    select(kept_references.c.manifest_digest)
    .where(
        kept_references.c.tenant_id == TENANT_ID,
        kept_references.c.repository_id == REPOSITORY_ID,
        kept_references.c.digest == DIGEST,
    )
    .distinct()
    .subquery("referrer")
)
_followed = (manifests.c.followed_digest == DIGEST, manifests.c.deleted_at > _SINCE)
_follower = (
    select(*_MANIFEST)
    .where(*_HERE, manifests.c.digest == _referrer.c.manifest_digest, *_followed)
    .limit(ONE)
    .lateral("follower")
)

LIST_FOLLOWERS: Final = statement(
    "list_followers",
    "Referrers that garbage collection deleted after a manifest.",
    select(*_follower.c).select_from(_referrer.join(_follower, true())),
    DeletedManifestRow,
)

SEARCH_FOLLOWERS: Final = statement(
    "search_followers",
    "The same of a manifest that a version before 0036 deleted, among all of the repository's.",
    select(*_MANIFEST).where(*_HERE, *_followed),
    DeletedManifestRow,
)


async def find_deleted_manifest(
    tx: Transaction, repository: RepositoryRow, digest: Digest, *, period: timedelta
) -> DeletedManifestRow | None:
    """The deleted manifest, if its time isn't over."""
    return await tx.one(FIND_DELETED_MANIFEST, digest=digest, restore_period=period, **_ids(repository))


async def lock_deleted_manifest(
    tx: Transaction, repository: RepositoryRow, digest: Digest, *, period: timedelta
) -> DeletedManifestRow | None:
    """The deleted manifest, locked, if it is still to be restored."""
    return await tx.one(LOCK_DELETED_MANIFEST, digest=digest, restore_period=period, **_ids(repository))


async def list_followers(
    tx: Transaction, repository: RepositoryRow, subject: DeletedManifestRow, *, period: timedelta
) -> list[DeletedManifestRow]:
    """Manifests that went because their subject had been deleted."""
    found = SEARCH_FOLLOWERS if subject.tags is None else LIST_FOLLOWERS
    return await tx.all(found, digest=subject.digest, restore_period=period, **_ids(repository))


def _ids(repository: RepositoryRow) -> dict[str, int]:
    return {"tenant_id": repository.tenant_id, "repository_id": repository.id}


_kept = (
    kept_references.c.tenant_id == TENANT_ID,
    kept_references.c.repository_id == REPOSITORY_ID,
    kept_references.c.manifest_digest == DIGEST,
)

RELINK_LAYERS: Final = statement(
    "relink_layers",
    "What a deleted manifest kept of blobs is in its repository again.",
    insert(layers)
    .from_select(
        ["tenant_id", "repository_id", "digest", "length"],
        select(kept_references.c.tenant_id, kept_references.c.repository_id, kept_references.c.digest, blobs.c.length)
        .select_from(
            kept_references.join(
                blobs,
                (blobs.c.tenant_id == kept_references.c.tenant_id) & (blobs.c.digest == kept_references.c.digest),
            )
        )
        # Of all that it kept only what it needs: its subject may be a blob that another repository has.
        .where(*_kept, kept_references.c.digest == func.any(DIGESTS), blobs.c.state == literal_column("'live'", Text()))
        .distinct()
        .order_by(kept_references.c.digest),
    )
    .on_conflict_do_update(
        index_elements=[layers.c.tenant_id, layers.c.repository_id, layers.c.digest], set_={"needed_at": func.now()}
    )
    .returning(layers.c.digest),
    LinkedRow,
)

REVIVE_MANIFEST: Final = statement(
    "revive_manifest",
    "A deleted manifest is there again, as it was.",
    update(manifests)
    .where(*_HERE, manifests.c.digest == DIGEST)
    .values(
        deleted_at=null(), deleted_by=null(), followed_digest=null(), deleted_signatures=null(), deleted_tags=null()
    )
    .add_cte(delete(kept_references).where(*_kept).cte("released"))
    .returning(manifests.c.digest),
    LinkedRow,
)


async def relink_layers(
    tx: Transaction, repository: RepositoryRow, digest: Digest, *, needed: Collection[Digest]
) -> set[Digest]:
    """Those of the blobs which this deleted manifest needs that the repository has again, or still."""
    found = await tx.all(RELINK_LAYERS, digest=digest, digests=list(needed), **_ids(repository))
    return {row.digest for row in found}


async def revive_manifest(tx: Transaction, repository: RepositoryRow, digest: Digest) -> None:
    """Takes the mark from a manifest that this transaction has locked."""
    await tx.one(REVIVE_MANIFEST, digest=digest, **_ids(repository))


_INSTANT: Final = parameter("deleted_at", DateTime(timezone=True))
_names = unnested({"name": Text(collation="C")})
_last = (
    select(tags.c.digest, tags.c.valid_to, tags.c.ended_by)
    .where(tags.c.tenant_id == TENANT_ID, tags.c.repository_id == REPOSITORY_ID, tags.c.name == _names.c.name)
    .order_by(tags.c.valid_from.desc())
    .limit(ONE)
    .lateral("last")
)

LIST_TAGS_ENDED_WITH: Final = statement(
    "list_tags_ended_with",
    "Those of the tags that ended when their manifest was deleted which have not been used since.",
    select(_names.c.name)
    .select_from(_names.join(_last, true()))
    .where(_last.c.digest == DIGEST, _last.c.valid_to >= _INSTANT, _last.c.ended_by == ACTOR)
    .order_by(_names.c.name),
    EndedTagRow,
)

_later = tags.alias("later")

SEARCH_TAGS_ENDED_WITH: Final = statement(
    "search_tags_ended_with",
    "The same of a manifest that a version before 0036 deleted, among all tags that the repository ever had.",
    select(tags.c.name)
    .where(
        tags.c.tenant_id == TENANT_ID,
        tags.c.repository_id == REPOSITORY_ID,
        tags.c.digest == DIGEST,
        # In the transaction of the deletion, whose instant is that of its beginning.
        tags.c.valid_to >= _INSTANT,
        tags.c.ended_by == ACTOR,
        ~select(_later.c.name)
        .where(
            _later.c.tenant_id == tags.c.tenant_id,
            _later.c.repository_id == tags.c.repository_id,
            _later.c.name == tags.c.name,
            _later.c.valid_from > tags.c.valid_from,
        )
        .exists(),
    )
    .order_by(tags.c.name),
    EndedTagRow,
)


async def list_tags_ended_with(tx: Transaction, repository: RepositoryRow, manifest: DeletedManifestRow) -> list[str]:
    """Names of the tags that went with the manifest."""
    asked = {"digest": manifest.digest, "deleted_at": manifest.deleted_at, "actor": manifest.deleted_by}
    if manifest.tags is None:
        rows = await tx.all(SEARCH_TAGS_ENDED_WITH, **asked, **_ids(repository))
    else:
        rows = await tx.all(LIST_TAGS_ENDED_WITH, names=manifest.tags, **asked, **_ids(repository))
    return [row.name for row in rows]


# -- repositories -----------------------------------------------------------------------------------------------------

_newest = (
    select(
        repositories.c.tenant_id,
        repositories.c.id,
        repositories.c.uncounted_manifests,
        repositories.c.uncounted_tags,
    )
    .where(
        repositories.c.tenant_id == select(tenants.c.id).where(tenants.c.name == TENANT).scalar_subquery(),
        repositories.c.path == PATH,
        repositories.c.deleted_at > _SINCE,
        repositories.c.purged_at.is_(None),
    )
    .order_by(repositories.c.deleted_at.desc())
    .limit(ONE)
    .with_for_update()
    .cte("newest")
)

RESTORE_REPOSITORY: Final = statement(
    "restore_repository",
    "The repository of this name that was deleted last is there again; its name has to be free.",
    update(repositories)
    .where(repositories.c.tenant_id == _newest.c.tenant_id, repositories.c.id == _newest.c.id)
    .values(
        named_at=func.now(),
        deleted_at=null(),
        deleted_by=null(),
        uncounted_manifests=literal_column("0", BigInteger()),
        uncounted_tags=literal_column("0", BigInteger()),
    )
    .returning(repositories.c.tenant_id, repositories.c.id, _newest.c.uncounted_manifests, _newest.c.uncounted_tags),
    RestoredRow,
)


async def restore_repository(tx: Transaction, *, tenant: str, path: str, period: timedelta) -> RestoredRow | None:
    """The repository that was deleted last under this name. It counts again.

    `RepositoryExistsError` when there is another one of the name.
    """
    row = await tx.one(RESTORE_REPOSITORY, tenant=tenant, path=path, restore_period=period)
    if row is not None:
        add_usage(tx, row.tenant_id, repositories=1, manifests=row.manifests, tags=row.tags)
    return row
