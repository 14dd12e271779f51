"""Registries to reach over HTTP: this one, and what a plain OCI registry looks like."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.app import Registry
from distsql.remote import RemoteNamespace
from distsql.remote.connection import Connection
from distsql.values import ASGIApplication, ASGIReceive, ASGIScope, ASGISend, Caller


def plainly(application: ASGIApplication) -> ASGIApplication:
    """The same without what only distsql has: no extension, no referrers, no tags in a push by digest."""

    async def serve(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        if b"_distsql" in scope["raw_path"] or b"/referrers/" in scope["raw_path"]:
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"404 page not found\n"})
            return
        query = scope["query_string"]
        await application({**scope, "query_string": b"" if query.startswith(b"tag=") else query}, receive, send)

    return serve


def client_of(application: ASGIApplication) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=application), base_url="http://registry.test")


@pytest.fixture
def application(registry: Registry) -> Application:
    return Application(registry, limits=Limits(), access_log=None)


@pytest.fixture
async def remote(application: Application) -> AsyncIterator[RemoteNamespace]:
    """A distsql, over HTTP."""
    async with client_of(application) as client:
        yield RemoteNamespace(Connection(client, Caller()))


@pytest.fixture
async def plain(application: Application) -> AsyncIterator[RemoteNamespace]:
    """A registry that offers the OCI API of version 1.0 and nothing else."""
    async with client_of(plainly(application)) as client:
        yield RemoteNamespace(Connection(client, Caller()))
