"""Every route there is, for everybody: what they may do, and that nobody learns what exists (CVE-2026-27771)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4

import httpx
import psycopg
import pytest

from distsql.api.permissions import Need, Permission, need_of
from distsql.oci.digest import Digest
from distsql.values import Action
from tests.access.conftest import World
from tests.api.route_table import Route, list_routes

ROUTES = list_routes()
# Who is asked about, with the actions that they have on what is there.
ACTIONS: dict[str, set[Action]] = {
    "anonymous": set(),
    "wrong tenant": set(),
    "read-only": {Action.PULL},
    "writer": {Action.PULL, Action.PUSH},
    "deleter": {Action.DELETE},
    "admin": set(Action),
}
LOGINS = {
    "anonymous": None,
    "wrong tenant": "other/root",
    "read-only": "acme/reader",
    "writer": "acme/writer",
    "deleter": "acme/deleter",
    "admin": "acme/root",
}
REFUSED = {401, 403}


@dataclass
class Place:
    """A repository with something of everything in it, or a name where nothing is."""

    name: str
    digest: Digest
    blob: Digest
    uuid: str

    def path(self, route: Route) -> str:
        values = {"name": self.name, "reference": "latest", "tag": "latest", "uuid": self.uuid}
        digest = self.blob if "blobs" in route.template else self.digest
        return route.fill(*(values.get(place, str(digest)) for place in route.places))


@pytest.fixture
async def places(world: World) -> tuple[Place, Place]:
    """One in acme that is there, and one that isn't."""
    pushed = await world.push("acme/web", b"content")
    async with await world.repository("acme/web").layers.upload() as upload:
        uuid = upload.uuid
    for name, actions in (("reader", "pull"), ("writer", "pull,push"), ("deleter", "delete")):
        await world.make(f"acme/{name}", f"acme/**:{actions}")
    await world.make("acme/root", "acme/**:pull,push,delete,admin")
    await world.make("other/root", "other/**:pull,push,delete,admin")
    there = Place("acme/web", pushed.digest, Digest.of(b"content"), str(uuid))
    return there, Place("acme/nowhere", Digest.of(b"1"), Digest.of(b"2"), str(uuid4()))


async def header_of(world: World, who: str, way: str, place: Place) -> dict[str, str]:
    login = LOGINS[who]
    if way == "basic":
        return world.basic(login) if login else {}
    scopes = [f"repository:{place.name}:*", "registry:catalog:*"]
    return await world.token(login, *scopes)


def test_every_handler_says_what_it_needs() -> None:
    """And OCI's own by their methods: what reads pulls, what writes pushes, DELETE deletes (CVE-2026-61833)."""
    for route in ROUTES:
        need = need_of(route.handler)
        if isinstance(need, Permission) or "_distsql" in route.template or "uploads" in route.template:
            continue
        expected = {"GET": Action.PULL, "HEAD": Action.PULL, "PUT": Action.PUSH, "DELETE": Action.DELETE}
        assert need is expected[route.method], route
    assert {need_of(route.handler) for route in ROUTES if "/uploads/" in route.template} == {Action.PUSH}
    open_to_all = {str(route) for route in ROUTES if need_of(route.handler) is Permission.LOGIN}
    assert open_to_all == {"GET /v2/", "HEAD /v2/", "GET /v2/_distsql/", "HEAD /v2/_distsql/"}


@pytest.mark.parametrize("way", ["token", "basic"])
@pytest.mark.parametrize("who", ACTIONS)
async def test_who_may(world: World, places: tuple[Place, Place], who: str, way: str) -> None:
    """Allowed is anything but a refusal; refused is 401 or 403, and the same as for what isn't there."""
    wrong = {}
    for route in sorted(ROUTES, key=lambda each: each.method == "DELETE"):  # while everything is there
        answers = []
        for place in places:
            header = await header_of(world, who, way, place)
            answers.append(await world.http.request(route.method, place.path(route), headers=header))
        refused = [answer.status_code in REFUSED for answer in answers]
        expected = not _may(who, way, need_of(route.handler))
        alike = not expected or _told(answers[0], places[0]) == _told(answers[1], places[1])
        if refused != [expected, expected] or not alike or any(answer.status_code >= 500 for answer in answers):
            wrong[str(route)] = [(answer.status_code, answer.text, answer.headers) for answer in answers]
    assert wrong == {}


def _may(who: str, way: str, need: Need) -> bool:
    if need is Permission.LOGIN:
        return way == "token" or who != "anonymous"
    if need is Permission.CATALOG:
        return who != "anonymous"
    return need in ACTIONS[who]


def _told(answer: httpx.Response, place: Place) -> tuple[object, ...]:
    """An answer without the names that the client gave."""
    headers = {name: value.replace(place.name, "NAME") for name, value in answer.headers.items()}
    headers.pop("content-length")
    return answer.status_code, headers, re.sub(re.escape(place.name), "NAME", answer.text)


async def test_a_listing_shows_nobody_what_they_may_not_pull(world: World, places: tuple[Place, Place]) -> None:
    """Catalogue and holders: by account, of the own tenant."""
    await world.push("other/web", b"content")
    for path in ("/v2/_catalog", f"/v2/_distsql/holders/{places[0].blob}"):
        seen: dict[str, list[list[str]]] = {}
        for login in ("acme/reader", "acme/deleter", "other/root"):
            for header in (world.basic(login), await world.token(login, "registry:catalog:*")):
                answer = await world.http.get(path, headers=header)
                seen.setdefault(login, []).append(answer.json()["repositories"])
        assert seen == {
            "acme/reader": [["acme/web"]] * 2,
            "acme/deleter": [[]] * 2,
            "other/root": [["other/web"]] * 2,
        }


async def test_an_upload_is_its_beginners(world: World, places: tuple[Place, Place]) -> None:
    """CVE-2026-32589: another repository, tenant or account finds nothing under its id, whatever it does with it."""
    await world.make("acme/ci", "acme/**:pull,push")
    begun = await world.http.post("/v2/acme/web/blobs/uploads/", headers=world.basic("acme/ci"))
    uuid = begun.headers["location"].rpartition("/")[2]
    digest = Digest.of(b"")
    for login, name in [("acme/root", "acme/web"), ("acme/ci", "acme/other"), ("other/root", "other/web")]:
        for method, more in [("GET", ""), ("PATCH", ""), ("PUT", f"?digest={digest}"), ("DELETE", "")]:
            path = f"/v2/{name}/blobs/uploads/{uuid}{more}"
            assert await world.status(method, path, world.basic(login), content=b"") == 404, (login, method)
    assert (
        await world.status("PUT", f"/v2/acme/web/blobs/uploads/{uuid}?digest={digest}", world.basic("acme/ci")) == 201
    )


async def test_an_upload_outlives_its_accounts_name_only(
    over: Callable[[], Awaitable[None]],
    world: World,
    places: tuple[Place, Place],
    sql: psycopg.Connection[tuple[object, ...]],
) -> None:
    """An account that gets the name later doesn't go on with its predecessor's session, though it knows the id.

    Nor with one that a server of the version before began, which remembers names only.
    """
    await world.make("acme/ci", "acme/**:pull,push")
    locations = []
    for _ in range(2):
        begun = await world.http.post("/v2/acme/web/blobs/uploads/", headers=world.basic("acme/ci"))
        locations.append(begun.headers["location"])
    sql.execute("update uploads set account_id = null where uuid = %s", [locations[1].rpartition("/")[2]])
    for location in locations:
        assert await world.status("GET", location, world.basic("acme/ci")) == 204
    await world.accounts.delete("acme/ci")
    await world.make("acme/ci", "acme/**:pull,push")
    await over()
    header = await world.token("acme/ci", "repository:acme/web:pull,push")
    for location in locations:
        for method, more in [("GET", ""), ("PATCH", ""), ("PUT", f"?digest={Digest.of(b'')}"), ("DELETE", "")]:
            assert await world.status(method, location + more, header, content=b"") == 404, method


async def test_the_audit_knows_who_it_was(world: World, sql: psycopg.Connection[tuple[object, ...]]) -> None:
    """By the account's name, with a token as with a secret."""
    await world.make("acme/ci", "acme/**:push")
    for header in (world.basic("acme/ci"), await world.token("acme/ci", "repository:acme/web:push")):
        assert await world.status("POST", "/v2/acme/web/blobs/uploads/", header) == 202
    found = sql.execute("select actor, count(*) from audit_events where action = 'upload.begin' group by 1").fetchall()
    assert found == [("acme/ci", 2)]


async def test_what_one_may_do_is_told(world: World, places: tuple[Place, Place]) -> None:
    """`_distsql/access`: by the token, not by the account."""
    header = await world.token("acme/root", "repository:acme/web:pull,delete")
    answer = await world.http.get("/v2/acme/web/_distsql/access", headers=header)
    assert answer.json() == {"actions": ["pull", "delete"]}
