"""A registry with `--auth token`, in this process, two tenants, and accounts with more and less rights."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import httpx
import pytest

from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.app import Registry, create_authorizer
from distsql.contract import Repository
from distsql.oci.manifest import ParsedManifest
from distsql.registry import account_states, last_uses
from distsql.registry.accounts import Accounts
from distsql.registry.grants import Grant
from distsql.registry.remembering import FRESH_S, Remembered
from distsql.registry.tenants import Tenants
from distsql.settings import Settings
from distsql.sql import tenant_setting
from distsql.values import Caller
from tests.registry.pushing import push_image

ADMINISTRATOR = Caller(actor="cli:tester")
BRIEFLY_S: Final = 0.15


@dataclass(frozen=True)
class World:
    """What a test starts from."""

    registry: Registry
    http: httpx.AsyncClient
    accounts: Accounts
    tenants: Tenants
    secrets: dict[str, str]

    async def make(self, login: str, *grants: str, lifetime: timedelta | None = None) -> str:
        """An account, whose secret is given and remembered."""
        granted = [Grant.parse(text) for text in grants]
        secret = await self.accounts.create(login, kind="robot", granted=granted, lifetime=lifetime)
        self.secrets[login] = secret
        return secret

    def basic(self, login: str, secret: str | None = None) -> dict[str, str]:
        """The header of an account that shows its secret."""
        text = f"{login}:{self.secrets[login] if secret is None else secret}"
        return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}

    async def token(self, login: str | None, *scopes: str) -> dict[str, str]:
        """The header of an account with a token for these scopes."""
        answer = await self.ask(login, *scopes)
        assert answer.status_code == 200, answer.text
        return {"authorization": f"Bearer {answer.json()['token']}"}

    async def ask(self, login: str | None, *scopes: str, **parameters: str) -> httpx.Response:
        headers: Mapping[str, str] = self.basic(login) if login else {}
        return await self.http.get("/token", params={"scope": list(scopes), **parameters}, headers=headers)

    async def status(self, method: str, path: str, headers: Mapping[str, str], **more: bytes) -> int:
        answer = await self.http.request(method, path, headers=headers, content=more.get("content"))
        return answer.status_code

    def repository(self, name: str) -> Repository:
        """As the operator sees it."""
        return self.registry.namespace.acting_as(ADMINISTRATOR).repository(name)

    async def push(self, name: str, *layers: bytes, tag: str = "latest") -> ParsedManifest:
        return await push_image(self.repository(name), *layers, tags=[tag], of=name)


@pytest.fixture
def over(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[None]]:
    """Waits until nothing counts that was only remembered: that is a sixth of a second here, where it is a second.

    How long it really is, servers are asked in tests/server/test_revocation.py.
    """
    assert FRESH_S == tenant_setting.FRESH_S == (Remembered.add.__kwdefaults__ or {})["seconds"] == 1
    for module in (account_states, tenant_setting):
        monkeypatch.setattr(module, "FRESH_S", BRIEFLY_S)
    monkeypatch.setattr(account_states, "_AGAIN_S", 0.6 * BRIEFLY_S)
    monkeypatch.setattr(last_uses, "FLUSH_S", BRIEFLY_S)
    monkeypatch.setitem(Remembered.add.__kwdefaults__ or {}, "seconds", BRIEFLY_S)
    return partial(asyncio.sleep, 1.1 * BRIEFLY_S)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return Settings(database_url=settings.database_url, storage=settings.storage, access_log=False, auth="token")


@pytest.fixture
async def new_client(registry: Registry, settings: Settings) -> AsyncIterator[Callable[[], httpx.AsyncClient]]:
    """Makes clients, each of a process of its own: with caches of its own."""
    opened: list[tuple[httpx.AsyncClient, Callable[[], Awaitable[None]]]] = []

    def make() -> httpx.AsyncClient:
        authorizer = create_authorizer(registry.backend, settings)
        application = Application(registry, limits=Limits(), access_log=None, authorizer=authorizer)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=application), base_url="http://registry.test")
        opened.append((client, authorizer.authenticator.close))
        return client

    yield make
    for client, close in opened:
        await client.aclose()
        await close()


@pytest.fixture
async def world(registry: Registry, new_client: Callable[[], httpx.AsyncClient]) -> World:
    everything = registry.backend.everything
    made = World(registry, new_client(), Accounts(everything, ADMINISTRATOR), Tenants(everything, ADMINISTRATOR), {})
    for tenant in ("acme", "other"):
        await made.tenants.create(tenant)
    return made
