"""Bytes that no row names: left by a process that was killed between bytes and rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

from distsql.bytestore.contract import StoredObject
from distsql.registry.context import Backend
from distsql.sql import sweeps

_BATCH: Final = 500


async def find_orphans(backend: Backend, *, grace: timedelta) -> AsyncIterator[StoredObject]:
    """Objects of the store that the catalogue doesn't know, and that nobody wrote to within the grace period.

    An upload's row is committed before its first byte, and becomes a blob's row in one transaction: so what no row
    names now, none will ever name. The grace is for the moments in which a request settles what it is about to forget.
    """
    before = datetime.now(UTC) - grace
    batch: list[StoredObject] = []
    async for stored in backend.store.walk():
        if stored.modified_at <= before:
            batch.append(stored)
        if len(batch) == _BATCH:
            for orphan in await _unknown(backend, batch):
                yield orphan
            batch = []
    for orphan in await _unknown(backend, batch):
        yield orphan


async def _unknown(backend: Backend, batch: list[StoredObject]) -> list[StoredObject]:
    keys = {name for stored in batch for name in (stored.key, stored.staged_key) if name}
    known = await backend.everything.read(sweeps.find_store_keys, sorted(keys))
    return [stored for stored in batch if stored.key not in known and stored.staged_key not in known]
