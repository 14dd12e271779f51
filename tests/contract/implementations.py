"""The implementations of `distsql.contract` that the suite runs against: the only page here that knows any of them.

To add one, write a function that opens it and name it in `IMPLEMENTATIONS`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import httpx

from distsql.api.application import Application
from distsql.api.blobs import serve_layer
from distsql.api.requests import Limits
from distsql.bytestore.contract import ByteStore
from distsql.bytestore.filesystem import FilesystemStore
from distsql.bytestore.memory import MemoryStore
from distsql.contract import Namespace
from distsql.registry.context import Backend
from distsql.registry.namespace import StoredNamespace
from distsql.remote import RemoteNamespace
from distsql.remote.connection import Connection
from distsql.sql.database import SERVE_ROLE, Database
from distsql.values import ASGIApplication, ASGIReceive, ASGIScope, ASGISend, Caller, TenantScope


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
            database, everything = Database(database_url, role=SERVE_ROLE), Database(database_url)
            stack.push_async_callback(database.close)
            stack.push_async_callback(everything.close)
            backends.append(Backend(database, everything, store, serve_layer))
        yield Opened(
            StoredNamespace(backends[0], caller),
            StoredNamespace(backends[1], caller),
            lambda tenant: StoredNamespace(backends[0], caller, TenantScope(tenant)),
        )


@dataclass(frozen=True)
class Served:
    """A registry that is open, as the application wants it."""

    namespace: Namespace

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def check(self) -> None: ...


def _gate(application: ASGIApplication) -> ASGIApplication:
    """What stands before the application and knows the callers: here it believes what they say."""

    async def admit(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        actor = dict(scope["headers"]).get(b"distsql-actor", b"nobody").decode()
        await application({**scope, "distsql.actor": unquote(actor)}, receive, send)

    return admit


@asynccontextmanager
async def over_http(database_url: str, folder: Path) -> AsyncIterator[Opened]:
    caller = Caller(actor="tester")
    async with AsyncExitStack() as stack:
        behind = await stack.enter_async_context(over_files(database_url, folder))
        connections = []
        for namespace in (behind.namespace, behind.elsewhere):
            application = Application(Served(namespace), limits=Limits(), access_log=None)
            transport = httpx.ASGITransport(app=_gate(application))
            client = httpx.AsyncClient(transport=transport, base_url="http://registry.test")
            connections.append(Connection(await stack.enter_async_context(client), caller))
        yield Opened(
            RemoteNamespace(connections[0]),
            RemoteNamespace(connections[1]),
            lambda tenant: RemoteNamespace(connections[0], TenantScope(tenant)),
        )


IMPLEMENTATIONS: Final[dict[str, Opener]] = {
    "postgresql-files": over_files,
    "postgresql-memory": over_memory,
    "http": over_http,
}

ANOTHER_STORE: Final = {"postgresql-memory"}
"""Those that differ from the one before in their byte store alone."""
