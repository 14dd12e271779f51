"""A suspended tenant: its accounts hear that it is, and get nothing; strangers hear what a wrong password tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.access.conftest import World

PULL = "/v2/acme/web/manifests/latest"
SCOPE = "repository:acme/web:pull"


@pytest.fixture
async def suspended(over: Callable[[], Awaitable[None]], world: World) -> tuple[World, dict[str, dict[str, str]], str]:
    """With what was given before: tokens, by whose they are, and a refresh token of the account's."""
    await world.push("acme/web")
    await world.make("acme/ci", "acme/**:pull,push")
    await world.make("other/ci", "other/**:pull")
    await world.registry.namespace.repository("acme/web").set_public(public=True)
    before = {str(login): await world.token(login, SCOPE) for login in ("acme/ci", "other/ci", None)}
    refresh = (await world.ask("acme/ci", offline_token="true")).json()["refresh_token"]
    await world.tenants.suspend("acme")
    await over()
    return world, before, refresh


async def test_whoever_knows_a_secret_hears_why(suspended: tuple[World, dict[str, dict[str, str]], str]) -> None:
    """No token, 403 with the reason: at the endpoint by each of its ways, and on the API."""
    world, _, refresh = suspended
    form = {"grant_type": "password", "username": "acme/ci", "password": world.secrets["acme/ci"]}
    answers = [
        await world.ask("acme/ci", SCOPE),
        await world.ask("acme/ci"),
        await world.http.post("/token", data=form),
        await world.http.post("/token", data={"grant_type": "refresh_token", "refresh_token": refresh}),
        await world.http.get("/v2/", headers=world.basic("acme/ci")),
        await world.http.get(PULL, headers=world.basic("acme/ci")),
    ]
    for answer in answers:
        assert answer.status_code == 403
        [error] = answer.json()["errors"]
        assert (error["code"], "acme is suspended" in error["message"]) == ("DENIED", True)


async def test_tokens_that_were_out_open_nothing(suspended: tuple[World, dict[str, dict[str, str]], str]) -> None:
    """Its account's, another's and everybody's, in what was public."""
    world, before, _ = suspended
    assert {login: await world.status("GET", PULL, header) for login, header in before.items()} == {
        "acme/ci": 403,
        "other/ci": 401,
        "None": 401,
    }


async def test_strangers_learn_nothing(
    suspended: tuple[World, dict[str, dict[str, str]], str], new_client: Callable[[], httpx.AsyncClient]
) -> None:
    """Wrong secrets, no secrets and other tenants' accounts are told the same of it as of a tenant that isn't there."""
    world, _, _ = suspended
    told = []
    for tenant in ("acme", "nowhere"):
        path, scope = f"/v2/{tenant}/web/manifests/latest", f"repository:{tenant}/web:pull"
        form = {"grant_type": "password", "username": f"{tenant}/ci", "password": "wrong"}
        client = new_client()
        answers = [
            await client.get("/token", headers=world.basic(f"{tenant}/ci", "wrong")),
            await client.post("/token", data=form),
            await client.get("/v2/", headers=world.basic(f"{tenant}/ci", "wrong")),
            await client.get(path, headers=world.basic("other/ci")),
        ]
        said = [(each.status_code, each.text, each.headers.get("www-authenticate", "")) for each in answers]
        for login in ("other/ci", None):
            token = await world.ask(login, scope)
            refused = await world.http.get(path, headers={"authorization": f"Bearer {token.json()['token']}"})
            said.append((token.status_code, token.json()["scope"], ""))
            said.append((refused.status_code, refused.text, refused.headers["www-authenticate"]))
        told.append([tuple(str(part).replace(tenant, "TENANT") for part in each) for each in said])
    assert told[0] == told[1]


async def test_resumed_it_goes_on(
    suspended: tuple[World, dict[str, dict[str, str]], str], over: Callable[[], Awaitable[None]]
) -> None:
    """With the tokens that were out, and the same secrets."""
    world, before, _ = suspended
    await world.tenants.resume("acme")
    await over()
    assert {await world.status("GET", PULL, header) for header in before.values()} == {200}
    assert (await world.ask("acme/ci", SCOPE)).status_code == 200
