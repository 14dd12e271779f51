"""Every route, asked by tenant B for what tenant A has: nothing tells it from what exists nowhere.

Status, headers, body, statements (how many, which, in how many round trips: what a clock would tell), rows and bytes.
HAZARDS.md: CVE-2024-39897 (HEAD and mount looked where everybody's content was), CVE-2026-35172 (what was deleted
was readable elsewhere), CVE-2026-32589 (an upload's id worked in other repositories).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

import pytest

from distsql.oci.digest import Digest
from tests.api.exchange import Answer, exchange, whole
from tests.api.route_table import Route, list_routes
from tests.isolation.things import ENDED, KINDS, Stock
from tests.isolation.world import RIVAL, World

ROUTES: Final = {str(route): route for route in list_routes()}
_UNLIKE: Final = {"date", "x-request-id"}
_JSON: Final = "application/json"


class Asked(NamedTuple):
    """One request."""

    target: str
    headers: dict[str, str]
    body: bytes


# What goes behind the path, apart from nothing: a query for each, in which {} fields are the stock's.
QUERIES: Final = {
    "DELETE /v2/<name>/blobs/<digest>": ["force=true"],
    "DELETE /v2/<name>/manifests/<reference>": ["force=true"],
    # Not behind a digest: that is a place in the order, whether anything is there or not.
    "GET /v2/<name>/_distsql/manifests": ["n=1"],
    "GET /v2/<name>/_distsql/manifests/<digest>/tags": ["last={tag}"],
    "GET /v2/<name>/_distsql/tags/<tag>": ["at=2100-01-01T00:00:00Z"],
    "GET /v2/<name>/_distsql/tags/<tag>/history": ["before=2100-01-01T00:00:00Z"],
    "GET /v2/<name>/referrers/<digest>": ["artifactType=application/vnd.cncf.notary.signature"],
    "GET /v2/<name>/tags/list": ["last={tag}", "n=1"],
    "GET /v2/_catalog": ["last={name}", "last={name}&n=1", "n=100"],
    "GET /v2/_distsql/holders/<digest>": ["last={name}"],
    "POST /v2/<name>/blobs/uploads/": [
        "digest={digest}",
        "mount={digest}",
        "mount={digest}&from={name}",
        "mount={digest}&from=rival/{word}",
        "mount={digest}&from={tenant}/sparse",
    ],
    "GET /v2/<name>/_distsql/deleted": ["n=1"],
    "POST /v2/<name>/_distsql/tags/<tag>/rollback": ["at=2100-01-01T00:00:00Z"],
    "PUT /v2/<name>/_distsql/blobs/<digest>": ["from={name}", "from=rival/{word}", "from=rival/web"],
    "PUT /v2/<name>/_distsql/tags/<tag>": ["digest={digest}"],
    "PUT /v2/<name>/blobs/uploads/<uuid>": ["digest={digest}"],
    "PUT /v2/<name>/manifests/<reference>": ["tag={tag}"],
}


def bodies(route: Route, stock: Stock, kind: str) -> list[tuple[dict[str, str], bytes]]:
    """Headers and body, all of which are sent."""
    content = stock.contents[kind]
    if route.method == "PUT" and "/manifests/" in route.template:
        return [
            ({"content-type": json.loads(each)["mediaType"]}, each)
            for each in (stock.parent(kind), *([content] if kind in stock.manifests else []))
        ]
    if route.method == "PUT" and "/tags/" in route.template:
        current = f'"{stock.digest(kind)}"'
        return [({}, b""), ({"if-match": current}, b""), ({"if-none-match": "*"}, b"")]
    if route.template.endswith("/signatures") and route.method == "POST":
        return [({"content-type": _JSON}, json.dumps({"signatures": ["e30="]}).encode())]
    if route.method in {"POST", "PUT", "PATCH"}:
        return [({}, content), *([({}, b"other content")] if kind == "layer" else [])]
    return [({}, b""), *([({"if-none-match": f'"{stock.digest(kind)}"'}, b"")] if kind == "image" else [])]


def values(place: str, route: Route, stock: Stock, kind: str, body: bytes) -> list[str]:
    """What stands in a place of the path. A new kind of place has to be told here."""
    own_reference = str(Digest.of(body)) if route.method == "PUT" else str(stock.digest(kind))
    return {
        "name": [f"{RIVAL}/web", f"{RIVAL}/{stock.word}", stock.name, stock.removed],
        "digest": [str(stock.digest(kind))],
        "reference": [own_reference, str(stock.digest(kind)), stock.tag, ENDED],
        "tag": [stock.tag, "latest", ENDED],
        "uuid": [str(stock.uuid)],
    }[place]


def requests(route: Route, stock: Stock, kinds: Sequence[str] = KINDS) -> Iterator[Asked]:
    """For everything in the stock, in the same order for every stock."""
    readable = Route("GET" if route.method == "HEAD" else route.method, route.template, route.handler)
    for kind in kinds if set(route.places) - {"name"} or str(readable) in QUERIES else kinds[:1]:
        fields = {"digest": str(stock.digest(kind)), **{each: getattr(stock, each) for each in _FIELDS}}
        for headers, body in bodies(route, stock, kind):
            for path in _paths(route, stock, kind, body):
                for query in ("", *QUERIES.get(str(readable), [])):
                    yield Asked(f"{path}?{quote(query.format(**fields), safe='=&:/')}", headers, body)


def one_kind(route: Route) -> Sequence[str]:
    """What the route is about, for those who ask for everything more often than once."""
    return ("layer",) if "/blobs/" in route.template else ("image",)


_FIELDS: Final = ("name", "tag", "word", "tenant")


def _paths(route: Route, stock: Stock, kind: str, body: bytes) -> list[str]:
    filled: list[list[str]] = [[]]
    for place in route.places:
        filled = [[*before, value] for before in filled for value in values(place, route, stock, kind, body)]
    removes_own = route.method == "DELETE" and route.places == ["name"]
    return [route.fill(*each) for each in filled if not (removes_own and each[0] == f"{RIVAL}/web")]


def told(answer: Answer, stock: Stock) -> tuple[int, dict[str, str], str]:
    """All that the client learns."""
    headers = {name: stock.hide(value) for name, value in answer.headers.items() if name not in _UNLIKE}
    return answer.status, headers, stock.hide(answer.body.decode())


async def ask(world: World, method: str, asked: Asked) -> Answer:
    world.statements.clear()
    headers = {**asked.headers, "content-length": str(len(asked.body)), "x-request-id": "same"}
    return await exchange(world.application, method, asked.target, body=whole(asked.body), headers=headers)


@pytest.mark.parametrize("template", sorted({route.template for route in ROUTES.values()}))
async def test_what_is_another_tenant_s_is_nowhere(
    template: str, worlds: tuple[World, World], there: Stock, nowhere: Stock
) -> None:
    first, second = worlds
    before, _ = first.rows(there)
    for route in [each for each in ROUTES.values() if each.template == template]:
        for real, unreal in zip(requests(route, there), requests(route, nowhere), strict=True):
            answers = await ask(first, route.method, real), await ask(second, route.method, unreal)
            assert told(answers[0], there) == told(answers[1], nowhere), (route.method, real, unreal)
            assert first.statements == second.statements, (route.method, real, unreal)
    assert first.past_policies == []
    acme, others = first.rows(there)
    assert acme == before
    assert others == second.rows(nowhere)[1]
    assert await first.objects() == await second.objects()


# Whoever may ask is told the same of every name.
SAME_FOR_ALL: Final = {"GET /v2/<name>/_distsql/access"}


@pytest.mark.parametrize(
    "name",
    [name for name, route in ROUTES.items() if route.method == "GET" and route.places and name not in SAME_FOR_ALL],
)
async def test_its_owner_is_told_more(name: str, world: World, there: Stock, nowhere: Stock) -> None:
    """Else the test above would compare nothing with nothing."""
    route = ROUTES[name]
    world.rival = world.registry.namespace
    for real, unreal in zip(requests(route, there), requests(route, nowhere), strict=True):
        found, missed = await ask(world, "GET", real), await ask(world, "GET", unreal)
        if found.status in {200, 204} and told(found, there) != told(missed, nowhere):
            return
    raise AssertionError("nothing was there")


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("GET /v2/<name>/_distsql/tags/<tag>/history", ENDED),
        ("POST /v2/<name>/_distsql/tags/<tag>/restore", ENDED),
        ("POST /v2/<name>/_distsql/tags/<tag>/rollback", ENDED),
        ("POST /v2/<name>/_distsql/restore", "removed"),
    ],
)
async def test_its_owner_is_told_of_what_was_deleted(name: str, which: str, world: World, there: Stock) -> None:
    """One of the requests above, for A's ended tag or its removed repository, succeeds when it is A that asks."""
    route = ROUTES[name]
    world.rival = world.registry.namespace
    about = [
        asked
        for asked in requests(route, there, one_kind(route))
        if f"{there.tenant}/" in asked.target and f"/{which}" in asked.target
    ]
    assert min([(await ask(world, route.method, asked)).status for asked in about]) in {200, 201, 204}


def test_the_queries_are_of_routes() -> None:
    assert QUERIES.keys() <= ROUTES.keys()
