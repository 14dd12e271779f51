"""What somebody was told is there, to refer to it in the next push: garbage collection counts its grace from then.

For blobs see `layers.renew_layer`. A manifest is asked for in three steps, of which most reads need the first only: its
row says whether it may go at all (`manifests.find_manifest`), then whether anything holds it, and then it is promised.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import func, select, update

from distsql.oci.digest import Digest
from distsql.sql.database import Transaction
from distsql.sql.garbage_manifests import NEEDED
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import DIGEST, REPOSITORY_ID, TENANT_ID, statement
from distsql.sql.tables import manifests


class HeldRow(NamedTuple):
    """Whether anything holds a manifest."""

    held: bool


class PromisedRow(NamedTuple):
    """A manifest that stays for the grace."""

    digest: Digest


_HERE: Final = (
    manifests.c.tenant_id == TENANT_ID,
    manifests.c.repository_id == REPOSITORY_ID,
    manifests.c.digest == DIGEST,
    manifests.c.deleted_at.is_(None),
)

FIND_HOLD: Final = statement(
    "find_hold",
    "Whether a tag, an index or its subject holds a manifest that may have to go.",
    select(NEEDED.label("held")).where(*_HERE),
    HeldRow,
)

PROMISE_MANIFEST: Final = statement(
    "promise_manifest",
    "Somebody was told that a manifest is there, to push an index that needs it: its grace begins again.",
    update(manifests).where(*_HERE).values(promised_at=func.now()).returning(manifests.c.digest),
    PromisedRow,
)


async def find_hold(tx: Transaction, repository: RepositoryRow, digest: Digest) -> bool | None:
    """Whether anything holds the manifest; None when it isn't there."""
    row = await tx.one(FIND_HOLD, tenant_id=repository.tenant_id, repository_id=repository.id, digest=digest)
    return None if row is None else row.held


async def promise_manifest(tx: Transaction, repository: RepositoryRow, digest: Digest) -> bool:
    """Whether the repository still has the manifest, which garbage collection leaves alone for the grace from now on.

    One that is being collected just now is waited for, and is gone then.
    """
    row = await tx.one(PROMISE_MANIFEST, tenant_id=repository.tenant_id, repository_id=repository.id, digest=digest)
    return row is not None
