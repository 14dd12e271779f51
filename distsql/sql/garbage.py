"""Blobs that nothing needs any more: out of their repositories, condemned, and their bytes deleted. Statements.

Candidates are locked first and judged in a second statement, which sees everything that was committed before the lock:
judged in one statement, a reference that was just made would be missed. What somebody works with just now isn't waited
for: it is looked at again a moment later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Interval,
    Text,
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.digest import Digest
from distsql.sql.garbage_queue import QueuedRow, queued, queueing
from distsql.sql.garbage_tables import condemned_bytes, garbage_periods, kept_references
from distsql.sql.statements import LIMIT, ONE, Nothing, parameter, statement, unnested
from distsql.sql.tables import SERVER_TENANT_ID, blobs, descriptors, layers
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType
from distsql.sql.usage import add_usage


class LayerKeyRow(NamedTuple):
    """A blob of a repository, by its key."""

    tenant_id: int
    repository_id: int
    digest: Digest


class JudgedLayerRow(NamedTuple):
    """A blob of a repository: since when nothing wanted it, and whether a manifest does."""

    tenant_id: int
    repository_id: int
    digest: Digest
    needed_at: datetime
    needed: bool


class BlobKeyRow(NamedTuple):
    """A blob, by its key."""

    tenant_id: int
    digest: Digest


class JudgedBlobRow(NamedTuple):
    """A blob, and whether it is live, and a repository has it or something deleted needs it."""

    tenant_id: int
    digest: Digest
    needed: bool


class CondemnedBlobRow(NamedTuple):
    """A blob that was condemned."""

    tenant_id: int
    digest: Digest
    length: int


class CondemnedBytesRow(NamedTuple):
    """Bytes to be deleted from the store."""

    tenant_id: int
    store_key: str
    length: int
    store_state: Mapping[str, Any] | None
    complete: bool


class LockRow(NamedTuple):
    """Whether the lock was got."""

    got: bool


_GRACE: Final = parameter("grace", Interval())
_LIVE: Final = literal_column("'live'", Text())
_CONDEMNED: Final = literal_column("'condemned'", Text())
_SUBJECT: Final = literal_column("'subject'", Text())
# Of garbage collection, in the whole database.
_LOCK: Final = literal_column("7138472190", BigInteger())

TRY_COLLECTING: Final = statement(
    "try_collecting",
    "One transaction at a time collects garbage, over all servers.",
    select(func.pg_try_advisory_xact_lock(_LOCK, type_=Boolean())),
    LockRow,
)


async def try_collecting(tx: Transaction) -> bool:
    """Whether this transaction is the only one that collects garbage, until its end."""
    row = await tx.one(TRY_COLLECTING)
    return row is not None and row.got


WAIT_TO_COLLECT: Final = statement(
    "wait_to_collect",
    "As try_collecting, after the others' transactions.",
    select(func.pg_advisory_xact_lock(_LOCK)),
    Nothing,
)


async def wait_to_collect(tx: Transaction) -> None:
    """Makes this transaction the only one that collects garbage, until its end."""
    tx.queue(WAIT_TO_COLLECT)


_periods = insert(garbage_periods).values(
    tenant_id=literal_column(str(SERVER_TENANT_ID), BigInteger()),
    grace=_GRACE,
    restore_period=parameter("restore_period", Interval()),
    recovery_window=parameter("recovery_window", Interval()),
)

SET_PERIODS: Final = statement(
    "set_periods",
    "The periods that collection goes by from now on, for those who ask when something goes.",
    _periods.on_conflict_do_update(
        index_elements=[garbage_periods.c.tenant_id],
        set_={
            "ran_at": func.now(),
            **{name: _periods.excluded[name] for name in ("grace", "restore_period", "recovery_window")},
        },
    ),
    Nothing,
)


def set_periods(tx: Transaction, *, grace: timedelta, restore_period: timedelta, recovery_window: timedelta) -> None:
    """Writes down the periods of a run."""
    tx.queue(SET_PERIODS, grace=grace, restore_period=restore_period, recovery_window=recovery_window)


# -- what a repository may see ----------------------------------------------------------------------------------------

_layer_keys = unnested({"tenant_id": BigInteger(), "repository_id": BigInteger(), "digest": DigestType()})
_layer_key = (layers.c.tenant_id, layers.c.repository_id, layers.c.digest)
_wanted_layer = (
    layers.c.tenant_id == _layer_keys.c.tenant_id,
    layers.c.repository_id == _layer_keys.c.repository_id,
    layers.c.digest == _layer_keys.c.digest,
)
_locked_layer = select(*_layer_key).where(*_wanted_layer).limit(ONE).with_for_update(skip_locked=True).lateral("layer")

LOCK_LAYERS: Final = statement(
    "lock_layers",
    "Those of some blobs of repositories that nobody works with just now.",
    select(_locked_layer.c.tenant_id, _locked_layer.c.repository_id, _locked_layer.c.digest).select_from(
        _layer_keys.join(_locked_layer, true())
    ),
    LayerKeyRow,
)

_need = (
    select(descriptors.c.digest)
    .where(
        descriptors.c.tenant_id == layers.c.tenant_id,
        descriptors.c.digest == layers.c.digest,
        descriptors.c.repository_id == layers.c.repository_id,
        descriptors.c.role != _SUBJECT,
    )
    .exists()
)
_judged_layer = (
    select(*_layer_key, layers.c.needed_at, _need.label("needed")).where(*_wanted_layer).limit(ONE).lateral("layer")
)

JUDGE_LAYERS: Final = statement(
    "judge_layers",
    "Which of some blobs their repositories still have, and whether manifests there need them.",
    select(*_judged_layer.c).select_from(_layer_keys.join(_judged_layer, true())),
    JudgedLayerRow,
)

_unlinked = delete(layers).where(tuple_(*_layer_key).in_(select(*_layer_keys.c))).returning(*_layer_key).cte("unlinked")

DELETE_GARBAGE_LAYERS: Final = statement(
    "delete_garbage_layers",
    "Repositories don't have these blobs any more; perhaps they were the last.",
    select(_unlinked.c.tenant_id, _unlinked.c.repository_id, _unlinked.c.digest).add_cte(
        queued(queueing("blob", tenant_id=_unlinked.c.tenant_id, digest=_unlinked.c.digest)).cte("queued")
    ),
    LayerKeyRow,
)


async def lock_layers(tx: Transaction, rows: Sequence[QueuedRow]) -> set[tuple[int, int, Digest | None]]:
    """Keys of those that are locked now."""
    return {(row.tenant_id, row.repository_id, row.digest) for row in await tx.all(LOCK_LAYERS, **entry_arrays(rows))}


async def judge_layers(tx: Transaction, rows: Sequence[QueuedRow]) -> list[JudgedLayerRow]:
    """Those that are still there, locked or not."""
    return await tx.all(JUDGE_LAYERS, **entry_arrays(rows))


async def delete_garbage_layers(tx: Transaction, rows: Sequence[JudgedLayerRow]) -> list[LayerKeyRow]:
    """Takes blobs out of their repositories: this transaction has locked them, and judged afterwards."""
    return await tx.all(DELETE_GARBAGE_LAYERS, **entry_arrays(rows)) if rows else []


def entry_arrays(rows: Sequence[QueuedRow | JudgedLayerRow]) -> dict[str, list[Any]]:
    """Parameters of statements over content of repositories."""
    return {
        "tenant_ids": [row.tenant_id for row in rows],
        "repository_ids": [row.repository_id for row in rows],
        "digests": [row.digest for row in rows],
    }


# -- blobs ------------------------------------------------------------------------------------------------------------

_blob_keys = unnested({"tenant_id": BigInteger(), "digest": DigestType()})
_wanted_blob = (blobs.c.tenant_id == _blob_keys.c.tenant_id, blobs.c.digest == _blob_keys.c.digest)
_locked_blob = (
    select(blobs.c.tenant_id, blobs.c.digest)
    .where(*_wanted_blob)
    .limit(ONE)
    .with_for_update(skip_locked=True)
    .lateral("blob")
)

LOCK_BLOBS: Final = statement(
    "lock_blobs",
    "Those of some blobs that nobody pushes or mounts just now.",
    select(_locked_blob.c.tenant_id, _locked_blob.c.digest).select_from(_blob_keys.join(_locked_blob, true())),
    BlobKeyRow,
)

_linked = select(layers.c.digest).where(layers.c.tenant_id == blobs.c.tenant_id, layers.c.digest == blobs.c.digest)
_kept = select(kept_references.c.digest).where(
    kept_references.c.tenant_id == blobs.c.tenant_id, kept_references.c.digest == blobs.c.digest
)
_judged_blob = (
    select(
        blobs.c.tenant_id,
        blobs.c.digest,
        or_(blobs.c.state != _LIVE, _linked.exists(), _kept.exists()).label("needed"),
    )
    .where(*_wanted_blob)
    .limit(ONE)
    .lateral("blob")
)

JUDGE_BLOBS: Final = statement(
    "judge_blobs",
    "Whether a repository has these blobs, or something that was deleted needs them to be restored.",
    select(*_judged_blob.c).select_from(_blob_keys.join(_judged_blob, true())),
    JudgedBlobRow,
)

_condemned = (
    update(blobs)
    .where(tuple_(blobs.c.tenant_id, blobs.c.digest).in_(select(*_blob_keys.c)), blobs.c.state == _LIVE)
    .values(state=_CONDEMNED, condemned_at=func.now())
    .returning(blobs.c.tenant_id, blobs.c.digest, blobs.c.length, blobs.c.store_key)
    .cte("condemned")
)
_bytes = insert(condemned_bytes).from_select(
    ["tenant_id", "store_key", "digest", "length", "complete"],
    select(_condemned.c.tenant_id, _condemned.c.store_key, _condemned.c.digest, _condemned.c.length, true()),
)

CONDEMN_BLOBS: Final = statement(
    "condemn_blobs",
    "Blobs that nothing needs: nobody sees them any more, and their bytes go. Pushed again they get new ones.",
    select(_condemned.c.tenant_id, _condemned.c.digest, _condemned.c.length).add_cte(_bytes.cte("their_bytes")),
    CondemnedBlobRow,
)


async def lock_blobs(tx: Transaction, keys: Sequence[BlobKeyRow]) -> set[BlobKeyRow]:
    """Those that are locked now."""
    return set(await tx.all(LOCK_BLOBS, **_blob_arrays(keys)))


async def judge_blobs(tx: Transaction, keys: Sequence[BlobKeyRow]) -> dict[BlobKeyRow, bool]:
    """Of those that are there, whether anything needs them."""
    return {
        BlobKeyRow(row.tenant_id, row.digest): row.needed for row in await tx.all(JUDGE_BLOBS, **_blob_arrays(keys))
    }


async def condemn_blobs(tx: Transaction, keys: Sequence[BlobKeyRow]) -> list[CondemnedBlobRow]:
    """Condemns blobs that this transaction has locked and then judged. Their tenants don't use them any more."""
    condemned = await tx.all(CONDEMN_BLOBS, **_blob_arrays(keys)) if keys else []
    for tenant_id in sorted({row.tenant_id for row in condemned}):
        add_usage(tx, tenant_id, stored_bytes=-sum(row.length for row in condemned if row.tenant_id == tenant_id))
    return condemned


def _blob_arrays(keys: Sequence[BlobKeyRow]) -> dict[str, list[Any]]:
    return {"tenant_ids": [key.tenant_id for key in keys], "digests": [key.digest for key in keys]}


# -- bytes ------------------------------------------------------------------------------------------------------------

# The name of the store is in front of a key, with a colon; of the settings' store nothing is.
_key = condemned_bytes.c.store_key
_colon = literal_column("':'", Text())
_nothing = literal_column("''", Text())
_store_name = case(
    (func.split_part(_key, _colon, literal_column("1")) == _key, _nothing),
    else_=func.split_part(_key, _colon, literal_column("1")),
)

LIST_CONDEMNED_BYTES: Final = statement(
    "list_condemned_bytes",
    "Bytes that nothing names any more, and that no recovery of the database needs.",
    select(
        condemned_bytes.c.tenant_id,
        condemned_bytes.c.store_key,
        condemned_bytes.c.length,
        condemned_bytes.c.store_state,
        condemned_bytes.c.complete,
    )
    .where(
        condemned_bytes.c.condemned_at <= func.now() - _GRACE,
        _store_name != func.all(parameter("away", ARRAY(Text()))),
    )
    .order_by(condemned_bytes.c.condemned_at)
    .limit(LIMIT),
    CondemnedBytesRow,
)

_byte_keys = unnested({"tenant_id": BigInteger(), "store_key": Text()})

FORGET_BLOBS: Final = statement(
    "forget_blobs",
    "Condemned blobs whose bytes are gone, unless they were pushed again meanwhile.",
    delete(blobs).where(
        tuple_(blobs.c.tenant_id, blobs.c.store_key).in_(select(*_byte_keys.c)), blobs.c.state != _LIVE
    ),
    Nothing,
)

FORGET_BYTES: Final = statement(
    "forget_bytes",
    "Bytes that the store has deleted.",
    delete(condemned_bytes).where(
        tuple_(condemned_bytes.c.tenant_id, condemned_bytes.c.store_key).in_(select(*_byte_keys.c))
    ),
    Nothing,
)


async def list_condemned_bytes(
    tx: Transaction, *, window: timedelta, away: Sequence[str], limit: int
) -> list[CondemnedBytesRow]:
    """Bytes that were condemned longer ago than the recovery window, but those in stores of these names."""
    return await tx.all(LIST_CONDEMNED_BYTES, grace=window, away=list(away), limit=limit)


async def forget_condemned_bytes(tx: Transaction, *, rows: Sequence[CondemnedBytesRow]) -> None:
    """Forgets bytes that are gone, and the blobs that had them."""
    for each in (FORGET_BLOBS, FORGET_BYTES):
        tx.queue(each, tenant_ids=[row.tenant_id for row in rows], store_keys=[row.store_key for row in rows])
