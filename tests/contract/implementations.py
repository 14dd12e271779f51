"""The implementations of `distsql.contract` that the suite runs against: the only page here that knows any of them.

To add one, write a function that opens it and name it in `IMPLEMENTATIONS`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from distsql.api.blobs import serve_layer
from distsql.bytestore.contract import ByteStore
from distsql.bytestore.filesystem import FilesystemStore
from distsql.bytestore.memory import MemoryStore
from distsql.contract import Namespace
from distsql.registry.context import Backend
from distsql.registry.namespace import StoredNamespace
from distsql.sql.database import Database
from distsql.values import Caller, TenantScope


@dataclass(frozen=True)
class Opened:
    """An empty registry, as the suite uses it.

    ``elsewhere`` is the same registry in another process, which shares nothing with this one but what is remembered;
    ``scoped`` gives the namespace of one tenant.
    """

    namespace: Namespace
    elsewhere: Namespace
    scoped: Callable[[str], Namespace]


Opener = Callable[[str, Path], AbstractAsyncContextManager[Opened]]


@asynccontextmanager
async def over_files(database_url: str, folder: Path) -> AsyncIterator[Opened]:
    async with _stored(database_url, FilesystemStore(folder), FilesystemStore(folder)) as opened:
        yield opened


@asynccontextmanager
async def over_memory(database_url: str, folder: Path) -> AsyncIterator[Opened]:
    store = MemoryStore()
    async with _stored(database_url, store, store) as opened:
        yield opened


@asynccontextmanager
async def _stored(database_url: str, *stores: ByteStore) -> AsyncIterator[Opened]:
    caller = Caller(actor="tester")
    async with AsyncExitStack() as stack:
        backends = []
        for store in stores:
            await store.open()
            stack.push_async_callback(store.close)
            database = Database(database_url)
            stack.push_async_callback(database.close)
            backends.append(Backend(database, store, serve_layer))
        yield Opened(
            StoredNamespace(backends[0], caller),
            StoredNamespace(backends[1], caller),
            lambda tenant: StoredNamespace(backends[0], caller, TenantScope(tenant)),
        )


IMPLEMENTATIONS: Final[dict[str, Opener]] = {"postgresql-files": over_files, "postgresql-memory": over_memory}

ANOTHER_STORE: Final = {"postgresql-memory"}
"""Those that differ from the one before in their byte store alone."""
