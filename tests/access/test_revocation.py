"""What was taken away is refused within seconds in every process, and nothing is opened by a name that it got later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import psycopg
import pytest

from distsql.registry.grants import Grant
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.registry.signing_keys import SigningKeys
from distsql.values import Caller
from tests.access.conftest import ADMINISTRATOR, BRIEFLY_S, World

PULL = "/v2/acme/web/manifests/latest"
SECONDS = 2.5

pytestmark = pytest.mark.usefixtures("over")


async def refused_within_seconds(ask: Callable[[], Awaitable[int]]) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if await ask() == 401:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it still counts")


@pytest.fixture
async def pushed(world: World) -> World:
    await world.push("acme/web")
    await world.make("acme/ci", "acme/**:pull,push,delete,admin")
    return world


async def _disable(world: World) -> None:
    await world.accounts.set_disabled("acme/ci", off=True)


async def _rotate(world: World) -> None:
    await world.accounts.rotate("acme/ci")


async def _delete(world: World) -> None:
    await world.accounts.delete("acme/ci")


async def _remove_grant(world: World) -> None:
    await world.accounts.revoke("acme/ci", Grant.parse("acme/**:pull"))


async def _rotate_keys(world: World) -> None:
    keys = SigningKeys(world.registry.backend.everything, Caller(actor="tester"))
    await keys.rotate(grace=timedelta(0))


@pytest.mark.parametrize("revoke", [_disable, _rotate, _delete, _remove_grant, _rotate_keys])
async def test_access_tokens_end_everywhere(
    pushed: World, new_client: Callable[[], httpx.AsyncClient], revoke: Callable[[World], Awaitable[None]]
) -> None:
    """Also in a process that has just taken the token, and in one that never saw it."""
    header = await pushed.token("acme/ci", "repository:acme/web:pull")
    elsewhere = new_client()
    assert (await elsewhere.get(PULL, headers=header)).status_code == 200
    assert await pushed.status("GET", PULL, header) == 200
    await revoke(pushed)

    async def ask_elsewhere() -> int:
        return (await elsewhere.get(PULL, headers=header)).status_code

    await refused_within_seconds(ask_elsewhere)
    await refused_within_seconds(lambda: pushed.status("GET", PULL, header))
    assert (await new_client().get(PULL, headers=header)).status_code == 401


@pytest.mark.parametrize("revoke", [_disable, _rotate, _delete])
async def test_secrets_and_refresh_tokens_end(pushed: World, revoke: Callable[[World], Awaitable[None]]) -> None:
    """Of an account that is switched off, rotated or deleted neither counts; switching on again revives no token."""
    refresh = (await pushed.ask("acme/ci", offline_token="true")).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": refresh}
    assert (await pushed.http.post("/token", data=form)).status_code == 200
    await revoke(pushed)
    await refused_within_seconds(lambda: pushed.status("GET", "/v2/", pushed.basic("acme/ci")))
    assert (await pushed.ask("acme/ci")).status_code == 401
    assert (await pushed.http.post("/token", data=form)).status_code == 401
    if revoke is _disable:
        await pushed.accounts.set_disabled("acme/ci", off=False)
        assert (await pushed.ask("acme/ci")).status_code == 200
        assert (await pushed.http.post("/token", data=form)).status_code == 401


async def test_a_rotated_secret_works_at_once(pushed: World) -> None:
    pushed.secrets["acme/ci"] = await pushed.accounts.rotate("acme/ci")
    assert await pushed.status("GET", PULL, pushed.basic("acme/ci")) == 200


async def test_a_refresh_token_outlives_a_grant(pushed: World) -> None:
    """Nobody has to log in again because of rights: the next access token has what is left."""
    refresh = (await pushed.ask("acme/ci", offline_token="true")).json()["refresh_token"]
    await _remove_grant(pushed)
    form = {"grant_type": "refresh_token", "refresh_token": refresh, "scope": "repository:acme/web:pull,push"}
    answer = await pushed.http.post("/token", data=form)
    assert answer.json()["scope"] == "repository:acme/web:push"


async def test_accounts_expire(world: World, sql: psycopg.Connection[tuple[object, ...]]) -> None:
    """To the second, with their tokens."""
    await world.push("acme/web")
    await world.make("acme/deploy", "acme/web:pull", lifetime=timedelta(seconds=1))
    header = await world.token("acme/deploy", "repository:acme/web:pull")
    assert await world.status("GET", PULL, header) == 200
    await refused_within_seconds(lambda: world.status("GET", PULL, header))
    assert (await world.ask("acme/deploy")).status_code == 401
    assert await world.status("GET", PULL, world.basic("acme/deploy")) == 401


async def test_what_is_private_again(pushed: World) -> None:
    """A token that had it because it was public has it no more, others do."""
    repository = pushed.registry.namespace.repository("acme/web")
    await repository.set_public(public=True)
    everybody = await pushed.token(None, "repository:acme/web:pull")
    own = await pushed.token("acme/ci", "repository:acme/web:pull")
    assert await pushed.status("GET", PULL, everybody) == 200
    await repository.set_public(public=False)
    await refused_within_seconds(lambda: pushed.status("GET", PULL, everybody))
    assert await pushed.status("GET", PULL, own) == 200


async def test_keys_rotate_without_anybody_noticing(
    pushed: World, new_client: Callable[[], httpx.AsyncClient], over: Callable[[], Awaitable[None]]
) -> None:
    """Within the grace: old tokens count everywhere, new ones too, whichever process issued them."""
    old = await pushed.token("acme/ci", "repository:acme/web:pull")
    elsewhere = new_client()
    assert (await elsewhere.get(PULL, headers=old)).status_code == 200
    await SigningKeys(pushed.registry.backend.everything, Caller(actor="tester")).rotate()
    assert (await elsewhere.get(PULL, headers=old)).status_code == 200
    await over()
    new = await pushed.token("acme/ci", "repository:acme/web:pull")
    assert (await elsewhere.get(PULL, headers=new)).status_code == 200
    assert (await elsewhere.get(PULL, headers=old)).status_code == 200


# -- names that somebody else has by now (Harbor 89e1c4b) -------------------------------------------------------------

EVERYTHING = "repository:acme/web:pull,push,delete,admin"


async def all_statuses(world: World, header: dict[str, str]) -> set[int]:
    digest = "sha256:" + "0" * 64
    requests = [
        ("GET", PULL),
        ("HEAD", PULL),
        ("GET", "/v2/acme/web/tags/list"),
        ("GET", f"/v2/acme/web/_distsql/blobs/{digest}"),
        ("POST", "/v2/acme/web/blobs/uploads/"),
        ("POST", f"/v2/acme/web/blobs/uploads/?mount={digest}"),
        ("DELETE", "/v2/acme/web/manifests/latest"),
        ("DELETE", "/v2/acme/web/_distsql/"),
    ]
    return {await world.status(method, path, header) for method, path in requests}


async def test_an_old_token_is_useless_on_a_repository_of_the_same_name(pushed: World) -> None:
    """At once, in the very process: not a second later."""
    old = await pushed.token("acme/ci", EVERYTHING)
    assert await pushed.status("GET", PULL, old) == 200
    await pushed.repository("acme/web").remove()
    await pushed.push("acme/web", b"secret")
    assert await all_statuses(pushed, old) <= {401, 404}
    assert await pushed.status("GET", PULL, await pushed.token("acme/ci", EVERYTHING)) == 200


async def test_an_old_token_makes_no_repository_of_the_same_name(pushed: World) -> None:
    old = await pushed.token("acme/ci", EVERYTHING)
    await pushed.repository("acme/web").remove()
    assert await all_statuses(pushed, old) <= {401, 404}
    assert not await pushed.repository("acme/web").exists()
    new = await pushed.token("acme/ci", EVERYTHING)
    assert await pushed.status("POST", "/v2/acme/web/blobs/uploads/", new) == 202


async def test_an_old_token_is_useless_once_its_repository_has_another_name(pushed: World) -> None:
    """Neither for the name, whoever has it now, nor under the new one, which it doesn't say."""
    old = await pushed.token("acme/ci", EVERYTHING)
    assert await pushed.status("GET", PULL, old) == 200
    everything = pushed.registry.backend.everything
    await RepositoryAdministration(everything, ADMINISTRATOR).rename("acme/web", "acme/before")
    assert await all_statuses(pushed, old) <= {401, 404}
    await pushed.push("acme/web", b"secret")
    assert await all_statuses(pushed, old) <= {401, 404}
    assert await pushed.status("GET", "/v2/acme/before/manifests/latest", old) == 401
    assert await pushed.status("GET", PULL, await pushed.token("acme/ci", EVERYTHING)) == 200


async def test_a_token_for_a_free_name_is_for_the_first_repository_only(world: World) -> None:
    """Issued while the name was free: it counts for what is made next, and not for what comes after that."""
    await world.make("acme/ci", "acme/**:pull,push,delete,admin")
    token = await world.token("acme/ci", EVERYTHING)
    assert await world.status("GET", PULL, token) == 404
    await world.push("acme/web")
    assert await world.status("GET", PULL, token) == 200
    await world.repository("acme/web").remove()
    assert await all_statuses(world, token) == {401}
    await world.push("acme/web", b"secret")
    assert await all_statuses(world, token) == {401}


async def test_a_token_for_a_free_name_is_for_the_repository_that_is_on_its_way(
    world: World, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Clients push several layers at once: the first makes the repository while the second asks for its token."""
    await world.make("acme/ci", "acme/**:pull,push")
    with sql.transaction():
        sql.execute("insert into repositories (tenant_id, path) select id, 'web' from tenants where name = 'acme'")
        token = await world.token("acme/ci", "repository:acme/web:pull,push")
    assert await world.status("POST", "/v2/acme/web/blobs/uploads/", token) == 202


async def _rename(world: World) -> None:
    await RepositoryAdministration(world.registry.backend.everything, ADMINISTRATOR).rename("acme/before", "acme/web")


async def _restore(world: World) -> None:
    await world.repository("acme/web").restorations.restore_repository()


@pytest.mark.parametrize(("own", "give_name"), [("before", _rename), ("web", _restore)])
async def test_a_token_for_a_free_name_is_for_no_older_repository(
    world: World, own: str, give_name: Callable[[World], Awaitable[None]]
) -> None:
    """However young: one that was made in the same second, and got the name only after the token was issued."""
    await world.make("acme/ci", "acme/**:pull,push,delete,admin")
    await world.push(f"acme/{own}", b"secret")
    if give_name is _restore:
        await world.repository("acme/web").remove()
    token = await world.token("acme/ci", EVERYTHING)
    await give_name(world)
    assert await all_statuses(world, token) == {401}
    assert await world.status("GET", PULL, await world.token("acme/ci", EVERYTHING)) == 200


@pytest.mark.parametrize("way", ["renamed", "deleted"])
async def test_a_tenant_of_the_same_name_is_another(
    pushed: World, way: str, over: Callable[[], Awaitable[None]]
) -> None:
    """Its name free again and taken by others: old accounts, grants and tokens have no part in it."""
    old = await pushed.token("acme/ci", EVERYTHING)
    free = await pushed.token("acme/ci", "repository:acme/later:pull,push")
    assert await pushed.status("GET", PULL, old) == 200
    await (pushed.tenants.rename("acme", "acme-before") if way == "renamed" else pushed.tenants.delete("acme"))
    await pushed.tenants.create("acme")
    await over()  # names' ids are remembered for a second, by row-level security alone
    await pushed.push("acme/web", b"secret")
    await pushed.push("acme/later", b"secret")
    assert await all_statuses(pushed, old) <= {401, 404}
    assert await pushed.status("GET", "/v2/acme/later/manifests/latest", free) in {401, 404}
    assert (await pushed.ask("acme/ci", EVERYTHING)).status_code == 401
    assert await pushed.status("GET", PULL, pushed.basic("acme/ci")) == 401


async def test_an_account_of_the_same_name_is_another(pushed: World) -> None:
    """Neither the old one's tokens nor its grants are the new one's."""
    old = await pushed.token("acme/ci", EVERYTHING)
    await pushed.accounts.delete("acme/ci")
    await pushed.make("acme/ci")
    await refused_within_seconds(lambda: pushed.status("GET", PULL, old))
    assert await pushed.status("GET", PULL, await pushed.token("acme/ci", EVERYTHING)) == 401


# -- last use ---------------------------------------------------------------------------------------------------------


async def test_last_use_costs_no_write_for_each_request(pushed: World) -> None:
    """Remembered in the process, written for many at once: soon, and then no more for minutes."""
    ran: list[str] = []

    def hear(name: str, **_: float) -> None:
        ran.append(name)

    pushed.registry.backend.everything.observe = hear
    header = await pushed.token("acme/ci", "repository:acme/web:pull")
    written = 0
    async with asyncio.timeout(20):
        while written < 5:  # long enough for it to be written twice
            assert await pushed.status("GET", PULL, header) == 200
            written += (await pushed.accounts.list("acme"))[0].last_used_at is not None
            await asyncio.sleep(BRIEFLY_S / 2)
    assert ran.count("set_last_used") == 1
