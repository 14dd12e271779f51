"""Byte stores that tenants may have, and moving blobs between them: statements."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Integer,
    Interval,
    LargeBinary,
    Text,
    func,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.digest import Digest
from distsql.sql.garbage_tables import condemned_bytes
from distsql.sql.statements import DIGEST, LIMIT, TENANT_ID, Nothing, parameter, statement
from distsql.sql.tables import SERVER_TENANT_ID, blobs, tenants, uploads
from distsql.sql.tenant_tables import byte_stores
from distsql.sql.transactions import Transaction


def store_of(key: ColumnElement[Any]) -> ColumnElement[str | None]:
    """The store that the key is of, by what is in front of its colon; null: that of the settings."""
    return func.nullif(func.split_part(key, literal_column("':'", Text()), literal_column("1")), key)


class StoreRow(NamedTuple):
    """A store, where it is, and how many tenants push to it."""

    name: str
    url: str
    added_at: datetime
    tenants: int


class NameRow(NamedTuple):
    """The name of a store."""

    name: str


class MisplacedBlobRow(NamedTuple):
    """A live blob whose bytes are in another store than they should be."""

    digest: Digest
    length: int
    store_key: str


class CountRow(NamedTuple):
    """How many, and how many bytes they are together."""

    number: int
    length: int


_SERVER: Final = literal_column(str(SERVER_TENANT_ID), BigInteger())
_NAME: Final = parameter("name", Text(collation="C"))
_LIVE: Final = literal_column("'live'", Text())
_PREFIX: Final = parameter("prefix", Text())
_LOST: Final = literal_column("'lost:'", Text())
_ZERO: Final = literal_column("0", BigInteger())

INSERT_STORE: Final = statement(
    "insert_store",
    "A store that tenants may have from now on.",
    insert(byte_stores)
    .values(tenant_id=_SERVER, name=_NAME, url=parameter("url", Text()))
    .on_conflict_do_nothing()
    .returning(byte_stores.c.name),
    NameRow,
)


async def insert_store(tx: Transaction, *, name: str, url: str) -> bool:
    """Whether the name was free."""
    return await tx.one(INSERT_STORE, name=name, url=url) is not None


LIST_STORES: Final = statement(
    "list_stores",
    "All stores but the one that the settings name.",
    select(
        byte_stores.c.name,
        byte_stores.c.url,
        byte_stores.c.added_at,
        select(func.count()).select_from(tenants).where(tenants.c.store == byte_stores.c.name).scalar_subquery(),
    )
    .where(byte_stores.c.tenant_id == _SERVER)
    .order_by(byte_stores.c.name),
    StoreRow,
)


async def list_stores(tx: Transaction) -> list[StoreRow]:
    """By name."""
    return await tx.all(LIST_STORES)


def _starts(key: ColumnElement[str], prefix: ColumnElement[str]) -> ColumnElement[bool]:
    return func.starts_with(key, prefix, type_=Boolean())


def _elsewhere(key: ColumnElement[str]) -> ColumnElement[bool]:
    """A key of another store than that of the prefix; that of the settings has keys without any."""
    named = func.strpos(key, literal_column("':'", Text()), type_=Integer()) > literal_column("0", Integer())
    return func.coalesce(~_starts(key, _PREFIX), named)


_misplaced = (
    blobs.c.tenant_id == TENANT_ID,
    blobs.c.state == _LIVE,
    ~_starts(blobs.c.store_key, _LOST),
    _elsewhere(blobs.c.store_key),
)

LIST_MISPLACED_BLOBS: Final = statement(
    "list_misplaced_blobs",
    "A page of a tenant's blobs that are not in the store where they should be.",
    select(blobs.c.digest, blobs.c.length, blobs.c.store_key)
    .where(
        *_misplaced,
        tuple_(blobs.c.tenant_id, blobs.c.digest) > tuple_(TENANT_ID, parameter("after", LargeBinary())),
    )
    .order_by(blobs.c.tenant_id, blobs.c.digest)
    .limit(LIMIT),
    MisplacedBlobRow,
)


async def list_misplaced_blobs(
    tx: Transaction, tenant_id: int, *, prefix: str | None, after: bytes, limit: int
) -> list[MisplacedBlobRow]:
    """Blobs behind ``after`` (packed digest) whose keys don't have the prefix; for None, that have any."""
    return await tx.all(LIST_MISPLACED_BLOBS, tenant_id=tenant_id, prefix=prefix, after=after, limit=limit)


COUNT_MISPLACED_BLOBS: Final = statement(
    "count_misplaced_blobs",
    "How much of a tenant there is to move.",
    select(func.count(), func.coalesce(func.sum(blobs.c.length).cast(BigInteger), _ZERO)).where(*_misplaced),
    CountRow,
)


async def count_misplaced_blobs(tx: Transaction, tenant_id: int, *, prefix: str | None) -> CountRow:
    """Their number, and bytes."""
    return await tx.one(COUNT_MISPLACED_BLOBS, tenant_id=tenant_id, prefix=prefix) or CountRow(0, 0)


COUNT_MISPLACED_UPLOADS: Final = statement(
    "count_misplaced_uploads",
    "Sessions that were begun before a tenant was given another store: they end in the old one.",
    select(func.count(), _ZERO).where(
        uploads.c.tenant_id == TENANT_ID,
        uploads.c.expires_at > func.now(),
        _elsewhere(uploads.c.store_key),
    ),
    CountRow,
)


async def count_misplaced_uploads(tx: Transaction, tenant_id: int, *, prefix: str | None) -> int:
    """Their number."""
    row = await tx.one(COUNT_MISPLACED_UPLOADS, tenant_id=tenant_id, prefix=prefix)
    return row.number if row else 0


_DIGEST_KEY: Final = (blobs.c.tenant_id == TENANT_ID, blobs.c.digest == DIGEST, blobs.c.state == _LIVE)

FIND_BLOB_KEY: Final = statement(
    "find_blob_key",
    "Where a live blob's bytes are just now.",
    select(blobs.c.digest, blobs.c.length, blobs.c.store_key).where(*_DIGEST_KEY),
    MisplacedBlobRow,
)


async def find_blob_key(tx: Transaction, tenant_id: int, digest: Digest) -> str | None:
    """The key, None when there is no such blob."""
    row = await tx.one(FIND_BLOB_KEY, tenant_id=tenant_id, digest=digest)
    return row.store_key if row else None


MOVE_BLOB: Final = statement(
    "move_blob",
    "A blob's bytes are in another store from now on, unless it was pushed again or condemned meanwhile.",
    blobs.update()
    .where(*_DIGEST_KEY, blobs.c.store_key == parameter("old_key", Text()))
    .values(store_key=parameter("store_key", Text()), store=store_of(parameter("store_key", Text())))
    .returning(blobs.c.digest, blobs.c.length, blobs.c.store_key),
    MisplacedBlobRow,
)


async def move_blob(tx: Transaction, tenant_id: int, blob: MisplacedBlobRow, *, store_key: str) -> bool:
    """Whether it was still where it is known to be here."""
    moved = await tx.one(
        MOVE_BLOB, tenant_id=tenant_id, digest=blob.digest, old_key=blob.store_key, store_key=store_key
    )
    return moved is not None


CONDEMN_MOVED_BYTES: Final = statement(
    "condemn_moved_bytes",
    "Bytes that were moved go where they were once nobody is on the way to them any more.",
    insert(condemned_bytes)
    .values(
        tenant_id=TENANT_ID,
        store_key=parameter("store_key", Text()),
        digest=DIGEST,
        length=parameter("length", BigInteger()),
        complete=true(),
        condemned_at=func.now() + parameter("delay", Interval()),
    )
    .on_conflict_do_nothing(),
    Nothing,
)

MARK_BYTES_LOST: Final = statement(
    "mark_bytes_lost",
    "A blob whose bytes were found damaged: nobody reads them any more, and the next push brings others.",
    blobs.update()
    .where(
        blobs.c.tenant_id == TENANT_ID,
        blobs.c.digest == DIGEST,
        blobs.c.store_key == parameter("store_key", Text()),
        blobs.c.state == _LIVE,
        ~_starts(blobs.c.store_key, _LOST),
    )
    .values(store_key=_LOST + blobs.c.store_key),
    Nothing,
)


def mark_bytes_lost(tx: Transaction, tenant_id: int, digest: Digest, *, store_key: str) -> None:
    """Unless the blob has got others meanwhile."""
    tx.queue(MARK_BYTES_LOST, tenant_id=tenant_id, digest=digest, store_key=store_key)


def condemn_moved_bytes(tx: Transaction, tenant_id: int, blob: MisplacedBlobRow, *, delay: timedelta) -> None:
    """The bytes that the blob had."""
    tx.queue(
        CONDEMN_MOVED_BYTES,
        tenant_id=tenant_id,
        digest=blob.digest,
        store_key=blob.store_key,
        length=blob.length,
        delay=delay,
    )
