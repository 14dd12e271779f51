"""However many accounts come in turn: no request of theirs asks who they are, and who lost a right is refused."""

from __future__ import annotations

import asyncio
import time

import pytest

from distsql.registry.grants import Grant
from tests.access.conftest import World

PULL = "/v2/acme/web/manifests/latest"


class Asked(list[str]):
    """Names of the statements that the registry ran."""

    def __call__(self, name: str, *, seconds: float, round_trips: int) -> None:
        del seconds, round_trips
        self.append(name)


@pytest.fixture
def asked(world: World) -> Asked:
    heard = Asked()
    world.registry.backend.database.observe = heard
    world.registry.backend.everything.observe = heard
    return heard


async def tokens_of(world: World, number: int) -> list[dict[str, str]]:
    await world.push("acme/web")
    for each in range(number):
        await world.make(f"acme/ci-{each}", "acme/**:pull")
    return [await world.token(f"acme/ci-{each}", "repository:acme/web:pull") for each in range(number)]


async def test_they_are_asked_about_together(world: World, asked: Asked) -> None:
    """Each of twelve comes about once a second, for three seconds: its state was read with its login, and not again."""
    headers = await tokens_of(world, 12)
    for header in headers:
        assert await world.status("GET", PULL, header) == 200
    asked.clear()
    until = time.monotonic() + 3.2
    rounds = 0
    while time.monotonic() < until:
        for header in headers:
            assert await world.status("GET", PULL, header) == 200
            await asyncio.sleep(0.03)
        rounds += 1
    assert asked.count("find_account_state") == 0
    assert 1 <= asked.count("list_void_accounts") <= 4
    assert asked.count("find_tagged_manifest") == 12 * rounds


async def test_of_many_the_one_that_was_revoked_is_refused(world: World) -> None:
    """Within two seconds and a half, the others not at all."""
    headers = await tokens_of(world, 4)
    statuses = [await world.status("GET", PULL, header) for header in headers]
    assert statuses == [200] * 4
    await world.accounts.set_disabled("acme/ci-2", off=True)
    until = time.monotonic() + 2.5
    while time.monotonic() < until and statuses[2] == 200:
        await asyncio.sleep(0.1)
        statuses = [await world.status("GET", PULL, header) for header in headers]
    assert statuses == [200, 200, 401, 200]


async def test_a_grant_that_was_added_is_in_the_next_list(world: World) -> None:
    """Rights of the token are its own; lists show what the account may pull now."""
    await world.push("acme/web")
    await world.push("acme/api")
    await world.make("acme/ci", "acme/web:pull")
    header = await world.token("acme/ci", "registry:catalog:*", "repository:acme/web:pull")
    assert (await world.http.get("/v2/_catalog", headers=header)).json()["repositories"] == ["acme/web"]
    await world.accounts.grant("acme/ci", Grant.parse("acme/api:pull"))
    await asyncio.sleep(1.1)
    assert await world.status("GET", PULL, header) == 200
    assert (await world.http.get("/v2/_catalog", headers=header)).json()["repositories"] == ["acme/api", "acme/web"]
