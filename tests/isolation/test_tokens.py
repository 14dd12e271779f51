"""Every route of a registry in which everybody logs in, asked by tenant B for what tenant A has: it is nowhere.

By B's token, by B's secret, by nobody, and by B's token at the hosts of tenants, A's own among them: a Host of one's
own making gives nobody another's rights. As in test_routes.py, whose requests these are, for fewer contents: what may
not be read is refused before anything is looked up.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

import pytest

from distsql.api.application import Application
from distsql.api.authorization import Authorizer
from distsql.api.requests import Limits
from distsql.app import create_authorizer
from distsql.registry import account_states, last_uses
from distsql.registry.remembering import Remembered
from distsql.settings import Settings
from tests.api.exchange import Answer, exchange, whole
from tests.isolation.test_routes import ROUTES, Asked, one_kind, requests, told
from tests.isolation.things import Stock
from tests.isolation.world import ACCOUNT, RIVAL, Origin, World

DOMAIN: Final = "registry.test"
_NEW: Final = {"token", "access_token", "issued_at", "expires_in"}


@dataclass
class Guarded:
    """A world in which everybody logs in, and what B shows there."""

    world: World
    authorizer: Authorizer
    application: Application
    basic: str

    async def ask(self, method: str, asked: Asked, headers: Mapping[str, str]) -> Answer:
        self.world.statements.clear()
        sent = {**asked.headers, "content-length": str(len(asked.body)), "x-request-id": "same", **headers}
        return await exchange(self.application, method, asked.target, body=whole(asked.body), headers=sent)

    async def token(self, stock: Stock, headers: Mapping[str, str], names: Mapping[str, str]) -> tuple[str, object]:
        """A token for everything under these names, and what its bearer learns from getting it."""
        scopes = "+".join(f"repository:{name}:*" for name in names.values())
        asked = Asked(f"/token?scope={scopes}+registry:catalog:*", {}, b"")
        answer = await self.ask("GET", asked, headers)
        said = json.loads(answer.body)
        learned = {key: value for key, value in said.items() if key not in _NEW}
        # Tenants are asked about at once, in no order.
        return said.get("token", ""), (answer.status, stock.hide(json.dumps(learned)), sorted(self.world.statements))


@pytest.fixture
async def guarded(
    worlds: tuple[World, World], origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Guarded, Guarded]]:
    # Nothing is asked again in the middle, in one of the two.
    for module, name in ((account_states, "FRESH_S"), (account_states, "_AGAIN_S"), (last_uses, "FLUSH_S")):
        monkeypatch.setattr(module, name, 3600)
    monkeypatch.setitem(Remembered.add.__kwdefaults__ or {}, "seconds", 3600)
    basic = "Basic " + base64.b64encode(f"{ACCOUNT}:{origin.secret}".encode()).decode()
    made = []
    for world in worlds:
        authorizer = create_authorizer(world.registry.backend, Settings(auth="token"))
        await authorizer.authenticator.keys()
        await authorizer.authenticator.log_in(
            ACCOUNT, origin.secret
        )  # and again, which reads changes for the first time
        await authorizer.authenticator.log_in(ACCOUNT, origin.secret)
        world.past_policies.clear()
        application = Application(
            world.registry, limits=Limits(), access_log=None, authorizer=authorizer, tenant_domain=DOMAIN
        )
        made.append(Guarded(world, authorizer, application, basic))
    yield made[0], made[1]
    for each in made:
        await each.authorizer.authenticator.close()


def at_host(asked: Asked) -> tuple[Asked, dict[str, str]]:
    """The same request at the host of the tenant that its path names; B's own where it names none."""
    path, _, rest = asked.target.removeprefix("/v2/").partition("/")
    if not rest or path.startswith("_"):
        return asked, {"host": f"{RIVAL}.{DOMAIN}"}
    return asked._replace(target=f"/v2/{rest.replace(f'={path}/', '=')}"), {"host": f"{path}.{DOMAIN}"}


@pytest.mark.parametrize("way", ["token", "basic", "nobody", "host"])
async def test_what_is_another_tenant_s_is_nowhere(
    way: str, guarded: tuple[Guarded, Guarded], there: Stock, nowhere: Stock
) -> None:
    first, second = guarded
    before, _ = first.world.rows(there)
    shown = {}
    for each, stock in ((first, there), (second, nowhere)):
        login = {} if way == "nobody" else {"authorization": each.basic}
        names = {"own": f"{RIVAL}/web", "free": f"{RIVAL}/{stock.word}", "theirs": stock.name}
        token, learned = await each.token(stock, login, names)
        shown[stock.word] = login if way == "basic" else {"authorization": f"Bearer {token}"}, learned
    assert shown[there.word][1] == shown[nowhere.word][1]
    statuses = set()
    for route in ROUTES.values():
        for real, unreal in zip(*(requests(route, stock, one_kind(route)) for stock in (there, nowhere)), strict=True):
            answers = []
            for each, stock, asked in ((first, there, real), (second, nowhere, unreal)):
                moved, host = at_host(asked) if way == "host" else (asked, {})
                answers.append(await each.ask(route.method, moved, {**host, **shown[stock.word][0]}))
            assert told(answers[0], there) == told(answers[1], nowhere), (route.method, real, unreal)
            assert sorted(first.world.statements) == sorted(second.world.statements), (route.method, real, unreal)
            statuses.add(answers[0].status)
    assert {401 if way in {"token", "nobody", "host"} else 403} <= statuses
    assert (200 in statuses and 201 in statuses) == (way != "nobody"), "B has what is its own"
    assert first.world.past_policies == []
    acme, others = first.world.rows(there)
    assert acme == before
    assert others == second.world.rows(nowhere)[1]
    assert await first.world.objects() == await second.world.objects()


async def test_a_login_tells_nothing_of_other_tenants(
    guarded: tuple[Guarded, Guarded], there: Stock, nowhere: Stock
) -> None:
    """A's account with a wrong secret, at any host: as nobody's."""
    for host in ("registry.test", "{tenant}.registry.test", f"{RIVAL}.registry.test"):
        learned = []
        for each, stock in zip(guarded, (there, nowhere), strict=True):
            basic = "Basic " + base64.b64encode(f"{stock.tenant}/ci:wrong".encode()).decode()
            headers = {"authorization": basic, "host": host.format(tenant=stock.tenant)}
            _, token = await each.token(stock, headers, {"theirs": stock.name})
            base = await each.ask("GET", Asked("/v2/", {}, b""), headers)
            learned.append((token, told(base, stock), each.world.statements))
        assert learned[0] == learned[1]
