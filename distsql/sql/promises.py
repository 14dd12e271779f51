"""What somebody was told is there, to refer to it in the next push: garbage collection counts its grace from then.

HEAD of a blob also asks whether anything needs it, which GET needn't know; if nothing does, it is promised. A manifest
is asked for in three steps, of which most reads need the first only: its row says whether it may go at all
(`manifests.find_manifest`), then whether anything holds it, and then it is promised.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, FromClause, Interval, Text, func, literal_column, select, update

from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.sql.garbage_manifests import NEEDED
from distsql.sql.layers import BlobRow, write_layer
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import (
    DIGEST,
    REPOSITORY_ID,
    TENANT_ID,
    asked_statement,
    name_parameters,
    parameter,
    statement,
)
from distsql.sql.tables import descriptors, layers, manifests
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType


class RiskRow(NamedTuple):
    """A blob, as `layers.BlobRow`; and whether it is at risk: needed by nothing for a good part of the grace."""

    digest: Digest
    length: int
    store_key: str
    created_at: datetime
    at_risk: bool

    @property
    def blob(self) -> BlobRow:
        """Without the risk."""
        return BlobRow(self.digest, self.length, self.store_key, self.created_at)


class HeldRow(NamedTuple):
    """Whether anything holds a manifest."""

    held: bool


class PromisedRow(NamedTuple):
    """A manifest or a blob that stays for the grace."""

    digest: Digest


# -- blobs -------------------------------------------------------------------------------------------------------------

_FRESH: Final = func.now() - parameter("fresh", Interval())


def _tell_risk(repository: FromClause) -> list[ColumnElement[Any]]:
    # The second half is looked at only where the first is true: few layers are old and unneeded. By the repository's
    # tenant, so that nothing that was read for it can be kept for the next one's.
    at_risk = (layers.c.needed_at <= _FRESH) & ~(
        select(descriptors.c.digest)
        .where(
            descriptors.c.tenant_id == repository.c.tenant_id,
            descriptors.c.digest == layers.c.digest,
            descriptors.c.repository_id == layers.c.repository_id,
            descriptors.c.role != literal_column("'subject'", Text()),
        )
        .correlate(layers, repository)
        .exists()
    )
    return [at_risk.label("at_risk")]


FIND_LAYER_RISK: Final = asked_statement(
    "find_layer_risk",
    "HEAD of a blob: as find_layer, and whether garbage collection may come for it.",
    partial(write_layer, tell=_tell_risk),
    RiskRow,
    asking={"digest": DigestType()},
)

RENEW_LAYER: Final = statement(
    "renew_layer",
    "Somebody was told that a blob is there, to push a manifest that needs it: its grace begins again.",
    update(layers)
    .where(layers.c.tenant_id == TENANT_ID, layers.c.repository_id == REPOSITORY_ID, layers.c.digest == DIGEST)
    .values(needed_at=func.now())
    .returning(layers.c.digest),
    PromisedRow,
)


async def find_layer_risk(tx: Transaction, name: RepositoryName, digest: Digest, *, fresh: timedelta) -> RiskRow | None:
    """The blob, if the repository has it; at risk if nothing has needed it for longer than ``fresh``."""
    return await tx.one(FIND_LAYER_RISK, **name_parameters(name), digest=digest, fresh=fresh)


async def renew_layer(tx: Transaction, repository: RepositoryRow, digest: Digest) -> bool:
    """Whether the repository still has the blob, which garbage collection leaves alone for the grace from now on."""
    row = await tx.last(RENEW_LAYER, tenant_id=repository.tenant_id, repository_id=repository.id, digest=digest)
    return row is not None


# -- manifests ---------------------------------------------------------------------------------------------------------

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
    row = await tx.last(PROMISE_MANIFEST, tenant_id=repository.tenant_id, repository_id=repository.id, digest=digest)
    return row is not None
