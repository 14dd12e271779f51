"""Whether catalogue and bytes agree, as `distsql verify` sees it; and registries that a test opens by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from distsql.api.blobs import serve_layer
from distsql.bytestore.contract import ByteStore
from distsql.bytestore.memory import MemoryStore
from distsql.registry.context import Backend
from distsql.registry.namespace import StoredNamespace
from distsql.registry.verification import Verifier
from distsql.sql.database import SERVE_ROLE, Database
from distsql.values import Caller


@asynccontextmanager
async def opened(
    database_url: str,
    store: ByteStore | None = None,
    *,
    pool_size: int = 10,
    statement_timeout_s: float = 30,
    lock_timeout_s: float = 10,
    upload_lifetime: timedelta = timedelta(hours=1),
) -> AsyncIterator[Backend]:
    """The machinery of a process of its own, over a store in memory unless another one is given."""
    store = store or MemoryStore()
    await store.open()
    open_as = partial(
        Database,
        database_url,
        pool_size=pool_size,
        statement_timeout_s=statement_timeout_s,
        lock_timeout_s=lock_timeout_s,
    )
    database, everything = open_as(role=SERVE_ROLE), open_as()
    backend = Backend(database, everything, store, serve_layer, upload_lifetime)
    try:
        yield backend
    finally:
        await backend.pushes.close()
        await database.close()
        await everything.close()
        await store.close()


def namespace_of(backend: Backend) -> StoredNamespace:
    return StoredNamespace(backend, Caller(actor="tester"))


async def findings(backend: Backend) -> list[str]:
    """Everything that is wrong: damage, and bytes that no row names."""
    verifier = Verifier(backend, read_bytes=True, grace=timedelta(0), notify=lambda what, count: None)
    return [str(finding) async for finding in verifier.findings()]


async def stored(backend: Backend) -> list[tuple[int, bool]]:
    """Length of every object in the store, and whether it is complete."""
    return sorted([(each.length, each.complete) async for each in backend.store.walk()])
