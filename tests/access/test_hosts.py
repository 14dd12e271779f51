"""Tokens at a tenant's host: challenges and scopes name what its client does, rights are of full names."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.app import create_authorizer
from distsql.settings import Settings
from tests.access.conftest import World

HOST = "acme.registry.test"


async def serving(world: World, public_url: str) -> AsyncIterator[httpx.AsyncClient]:
    authorizer = create_authorizer(world.registry.backend, Settings(auth="token", public_url=public_url))
    application = Application(
        world.registry, limits=Limits(), access_log=None, authorizer=authorizer, tenant_domain="registry.test"
    )
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}:5000") as client:
        yield client
    await authorizer.authenticator.close()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    await world.push("acme/web", b"content")
    await world.push("other/web", b"content")
    await world.make("acme/ci", "acme/**:pull,push")
    await world.make("other/ci", "other/**:pull,push")
    async for opened in serving(world, ""):
        yield opened


async def test_a_client_that_follows_its_challenge(world: World, client: httpx.AsyncClient) -> None:
    """As docker does: the realm is at the same host, the scope names what it asked for, the token opens that."""
    path = "/v2/web/manifests/latest"
    challenge = (await client.get(path)).headers["www-authenticate"]
    assert f'realm="http://{HOST}:5000/token"' in challenge
    assert 'scope="repository:web:pull"' in challenge
    answer = await client.get("/token", params={"scope": "repository:web:pull"}, headers=world.basic("acme/ci"))
    assert answer.json()["scope"] == "repository:web:pull"
    bearer = {"authorization": f"Bearer {answer.json()['token']}"}
    assert (await client.get(path, headers=bearer)).status_code == 200
    # One repository, whatever it is called where: the token is for it.
    assert (await client.get("/v2/acme/web/manifests/latest", headers={**bearer, "host": "registry.test"})).is_success
    assert (await client.get(path, headers={**bearer, "host": "other.registry.test"})).status_code == 401


async def test_the_oauth2_way(world: World, client: httpx.AsyncClient) -> None:
    form = {"grant_type": "password", "username": "acme/ci", "password": world.secrets["acme/ci"]}
    answer = await client.post("/token", data={**form, "scope": "repository:web:push repository:acme/web:push"})
    # The second one is acme/acme/web, which is free.
    assert answer.json()["scope"] == "repository:web:push repository:acme/web:push"
    bearer = {"authorization": f"Bearer {answer.json()['token']}"}
    assert (await client.post("/v2/web/blobs/uploads/", headers=bearer)).status_code == 202


async def test_a_mount_asks_for_its_source(world: World, client: httpx.AsyncClient) -> None:
    refused = await client.post("/v2/copy/blobs/uploads/?mount=sha256:00&from=web")
    assert 'scope="repository:copy:pull,push repository:web:pull"' in refused.headers["www-authenticate"]


async def test_another_tenants_account(world: World, client: httpx.AsyncClient) -> None:
    """It has no more rights at acme's host than elsewhere, and sees none of its own names there."""
    for header in (
        world.basic("other/ci"),
        await world.token("other/ci", "repository:other/web:*", "registry:catalog:*"),
    ):
        assert (await client.get("/v2/web/manifests/latest", headers=header)).status_code in {401, 403}
        assert (await client.get("/v2/_catalog", headers=header)).json() == {"repositories": []}
    asked = await client.get("/token", params={"scope": "repository:web:pull"}, headers=world.basic("other/ci"))
    assert asked.json()["scope"] == ""


async def test_the_catalogue_of_an_account(world: World, client: httpx.AsyncClient) -> None:
    answer = await client.get("/v2/_catalog", headers=world.basic("acme/ci"))
    assert answer.json() == {"repositories": ["web"]}


async def test_behind_a_proxy(world: World) -> None:
    """`--public-url` says how clients come, the request's host where to."""
    async for client in serving(world, "https://registry.test"):
        challenge = (await client.get("/v2/", headers={"host": HOST})).headers["www-authenticate"]
        assert f'realm="https://{HOST}/token",service="registry.test"' in challenge
        forged = {"host": "registry.test", "x-forwarded-host": HOST}
        challenge = (await client.get("/v2/web/tags/list", headers=forged)).headers["www-authenticate"]
        assert 'realm="https://registry.test/token"' in challenge
