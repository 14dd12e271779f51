"""However many accounts come in turn: no request of theirs asks who they are, and who lost a right is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

import pytest

from distsql.errors import CatalogueUnavailableError, CredentialsInvalidError
from distsql.registry import account_states, remembering
from distsql.registry.account_states import AccountStates
from distsql.registry.grants import Grant
from distsql.sql import access_changes, accounts
from distsql.sql.accounts import AccountStateRow
from distsql.sql.transactions import Transaction
from tests.access.conftest import BRIEFLY_S, World

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


@pytest.mark.usefixtures("over")
async def test_nobody_is_asked_about_again(world: World, asked: Asked) -> None:
    """Each of twelve comes as often as changes are read: its state was read with its login. They are read for all."""
    headers = await tokens_of(world, 12)
    for header in headers:
        assert await world.status("GET", PULL, header) == 200
    asked.clear()
    began, rounds = time.monotonic(), 0
    while time.monotonic() < began + 4 * BRIEFLY_S:
        for header in headers:
            assert await world.status("GET", PULL, header) == 200
            await asyncio.sleep(BRIEFLY_S / 30)
        rounds += 1
    assert asked.count("find_account_state") == 0
    assert 1 <= asked.count("list_access_changes") <= 1 + (time.monotonic() - began) / account_states._AGAIN_S
    assert asked.count("find_tagged_manifest") == 12 * rounds


async def test_of_many_the_one_that_was_revoked_is_refused(world: World, asked: Asked) -> None:
    """Within two seconds and a half; the others are not, nor read again."""
    headers = await tokens_of(world, 4)
    statuses = [await world.status("GET", PULL, header) for header in headers]
    assert statuses == [200] * 4
    await world.accounts.set_disabled("acme/ci-2", off=True)
    asked.clear()
    until = time.monotonic() + 2.5
    while time.monotonic() < until and statuses[2] == 200:
        await asyncio.sleep(0.1)
        statuses = [await world.status("GET", PULL, header) for header in headers]
    assert statuses == [200, 200, 401, 200]
    assert asked.count("find_account_state") == 1


async def test_what_had_to_make_room_counts_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an account that isn't remembered nobody would hear a change: tokens that lead to it lead nowhere."""
    states = AccountStates(world.registry.backend.database, world.registry.backend.everything)
    for login in ("acme/ci-0", "acme/ci-1"):
        await world.make(login, "acme/**:pull")
    first, second = [(row.tenant_id, row.id) for row in await world.accounts.list("acme")]
    before = await states.get(first)
    assert await states.get(first) is before
    assert states.vouches(before, time.time())
    monkeypatch.setattr(remembering, "MOST", 1)
    await states.get(second)
    assert not states.vouches(before, time.time())
    assert await states.get(first) is not before
    await states.close()


async def test_a_hundred_that_come_at_once_ask_once(
    over: Callable[[], Awaitable[None]], world: World, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a pause nobody knows what has changed: one of them asks, and the others wait for its answer."""
    [header] = await tokens_of(world, 1)
    assert await world.status("GET", PULL, header) == 200
    await over()
    monkeypatch.setattr(account_states, "_AGAIN_S", 60)
    asked.clear()
    begun = time.monotonic()
    statuses = await asyncio.gather(*(world.status("GET", PULL, header) for _ in range(100)))
    assert set(statuses) == {200}
    spans = (time.monotonic() - begun) / BRIEFLY_S  # on a busy machine what was read may be too old before the last one
    assert 1 <= asked.count("list_access_changes") <= 1 + spans
    assert asked.count("find_account_state") == 0


async def test_what_changes_while_it_is_read_is_not_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account's state is on its way while the change is told: what comes late is older than the change."""
    states = AccountStates(world.registry.backend.database, world.registry.backend.everything)
    await world.make("acme/ci", "acme/**:pull")
    [row] = await world.accounts.list("acme")
    key = row.tenant_id, row.id
    await states.get(key)
    find = accounts.find_account_state

    async def find_late(tx: Transaction, *ids: int) -> AccountStateRow | None:
        found = await find(tx, *ids)
        await world.accounts.set_disabled("acme/ci", off=True)
        await states._read_changes()  # in the one order that would go wrong
        return found

    with monkeypatch.context() as patched:
        patched.setattr(accounts, "find_account_state", find_late)
        await states.read(key)
    with pytest.raises(CredentialsInvalidError):
        await states.get(key)
    await states.close()


@pytest.mark.usefixtures("over")
async def test_who_cannot_learn_of_changes_allows_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database answers requests and not this question: tokens count for a second more, and then 503 says why."""
    [header] = await tokens_of(world, 1)
    assert await world.status("GET", PULL, header) == 200

    async def fail(tx: Transaction, horizon: int) -> NoReturn:
        raise CatalogueUnavailableError("the database doesn't answer")

    with monkeypatch.context() as patched:
        patched.setattr(access_changes, "list_access_changes", fail)
        until = time.monotonic() + 2.5
        while await world.status("GET", PULL, header) == 200:
            assert time.monotonic() < until
            await asyncio.sleep(0.02)
        assert await world.status("GET", PULL, header) == 503
    assert await world.status("GET", PULL, header) == 200


async def test_a_grant_that_was_added_is_in_the_next_list(over: Callable[[], Awaitable[None]], world: World) -> None:
    """Rights of the token are its own; lists show what the account may pull now."""
    await world.push("acme/web")
    await world.push("acme/api")
    await world.make("acme/ci", "acme/web:pull")
    header = await world.token("acme/ci", "registry:catalog:*", "repository:acme/web:pull")
    assert (await world.http.get("/v2/_catalog", headers=header)).json()["repositories"] == ["acme/web"]
    await world.accounts.grant("acme/ci", Grant.parse("acme/api:pull"))
    await over()
    assert await world.status("GET", PULL, header) == 200
    assert (await world.http.get("/v2/_catalog", headers=header)).json()["repositories"] == ["acme/api", "acme/web"]
