"""Every route, asked at a tenant's host and by full names: the same answers but for the names, the same rows after.

So a route that forgets to ask whose its names are fails here, whoever writes it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Final

from distsql.api.application import Application
from distsql.api.requests import Limits
from tests.api.exchange import Answer, exchange, whole
from tests.api.route_table import Route
from tests.isolation.test_routes import ROUTES, Asked, one_kind, requests, told
from tests.isolation.things import Stock
from tests.isolation.world import ACME, World

DOMAIN: Final = "registry.test"


def of_acme(route: Route, stock: Stock) -> Iterator[tuple[Asked, Asked]]:
    """A request by full names, and the same one at acme's host. Lists of the whole registry are another matter."""
    for asked in requests(route, stock, one_kind(route)):
        if asked.target.startswith(f"/v2/{ACME}/") and "from=rival" not in asked.target:
            short = asked.target.replace(f"/v2/{ACME}/", "/v2/").replace(f"={ACME}/", "=")
            yield asked, asked._replace(target=short)


async def ask(world: World, method: str, asked: Asked, host: str) -> Answer:
    application = Application(world.registry, limits=Limits(), access_log=None, tenant_domain=DOMAIN)
    headers = {**asked.headers, "content-length": str(len(asked.body)), "x-request-id": "same", "host": host}
    return await exchange(application, method, asked.target, body=whole(asked.body), headers=headers)


def shown(answer: Answer, stock: Stock) -> tuple[int, dict[str, str], str]:
    """What the client learns, apart from the tenant in names, and so from the body's length."""
    status, headers, body = told(answer, stock)
    headers.pop("content-length", None)
    short = {name: value.replace("<tenant>/", "") for name, value in headers.items()}
    return status, short, body.replace("<tenant>/", "")


def done(world: World, stock: Stock) -> Counter[str]:
    """How many rows each table has of the tenant, and what was done to which repository by full name."""
    counted = Counter[str]()
    for row in world.rows(stock)[0]:
        table, _, text = row.partition(" ")
        if table == "tenant_usage":  # in slots that are picked at random
            continue
        event = json.loads(text) if table == "audit_events" else {}
        counted[f"{table} {event.get('action')} {event.get('repository')}"] += 1
    return counted


async def test_a_tenants_host_is_its_names(worlds: tuple[World, World], there: Stock) -> None:
    first, second = worlds
    asked = set()
    # What deletes the repository comes last.
    for route in sorted(ROUTES.values(), key=lambda each: (each.method == "DELETE", -len(each.places))):
        for full, short in of_acme(route, there):
            by_name = await ask(first, route.method, full, DOMAIN)
            by_host = await ask(second, route.method, short, f"{ACME}.{DOMAIN}")
            assert f"{ACME}/" not in f"{by_host.headers} {by_host.body!r}", (route.method, short)
            assert shown(by_name, there) == shown(by_host, there), (route.method, full, short)
            asked.add(route)
    assert asked == {route for route in ROUTES.values() if "name" in route.places}
    assert done(first, there) == done(second, there)
    assert await first.objects() == await second.objects()
