"""Every route that writes x the switches: the specification's words for a refusal, and reads that go on."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Final

import httpx
import pytest

from distsql.api.permissions import need_of
from distsql.app import Registry
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.registry.tenants import Tenants
from distsql.values import Action, Caller
from tests.api.contents import begin_upload, digest_of, errors, image, push_image
from tests.api.route_table import Route, list_routes

Turn = Callable[[], Awaitable[None]]

ADMINISTRATOR: Final = Caller(actor="administrator")
LAYER: Final = b"layer"
WRITING: Final = [
    route for route in list_routes() if route.method not in {"GET", "HEAD"} and "<name>" in route.template
]

DELETING: Final = {Action.DELETE, Action.ADMIN}  # a whole repository is its administrator's to delete


async def call(client: httpx.AsyncClient, route: Route, turn: Turn) -> httpx.Response:
    """The route, on what is there when the switch is turned."""
    payload = await push_image(client, "acme/web", LAYER, tags=["v1"])
    session = await begin_upload(client, "acme/web")
    digest = digest_of(LAYER) if "/blobs/" in route.template else digest_of(payload)
    values = {"name": "acme/web", "digest": digest, "tag": "v1", "uuid": session.rpartition("/")[2], "reference": "v1"}
    await _undo_something(client, route, digest)
    await turn()
    body, headers, params = b"", {}, {"digest": digest_of(payload)}
    if route.template.endswith("/manifests/<reference>") and route.method == "PUT":
        body, params = image(LAYER, annotations={"another": "one"}), {}
        headers = {"content-type": json.loads(body)["mediaType"]}
    elif route.template.endswith("/signatures"):
        body = b'{"signatures": ["c2lnbmVk"]}'
    elif route.template.endswith(("/blobs/uploads/", "/blobs/uploads/<uuid>")):
        body, params = b"content", {"digest": digest_of(b"content")}
    path = route.fill(*(values[place] for place in route.places))
    return await client.request(route.method, path, content=body, headers=headers, params=params)


async def _undo_something(client: httpx.AsyncClient, route: Route, digest: str) -> None:
    """So that there is something to take back."""
    if route.template.endswith("/rollback"):
        await push_image(client, "acme/web", b"another", tags=["v1"])
    elif route.template.endswith("tags/<tag>/restore"):
        await client.delete("/v2/acme/web/manifests/v1")
    elif route.template.endswith("manifests/<digest>/restore"):
        await client.delete(f"/v2/acme/web/manifests/{digest}")


@pytest.fixture
def turn(registry: Registry, request: pytest.FixtureRequest) -> Turn:
    everything, which = registry.backend.everything, str(request.param)

    async def turn() -> None:
        if which == "suspended":
            await Tenants(everything, ADMINISTRATOR).suspend("acme")
        elif which == "no deletions":
            await Tenants(everything, ADMINISTRATOR).set("acme", {"deletable": False})
        elif which == "repository":
            await RepositoryAdministration(everything, ADMINISTRATOR).set("acme/web", {"read_only": True})
        else:
            object.__setattr__(registry.backend, "read_only", True)  # as if the process had been started so

    return turn


def test_there_are_routes_that_write() -> None:
    assert len(WRITING) > 9
    assert {need_of(route.handler) for route in WRITING} == {Action.PUSH, *DELETING}


@pytest.mark.parametrize("turn", ["registry", "repository", "suspended"], indirect=True)
@pytest.mark.parametrize("route", WRITING, ids=str)
async def test_what_is_read_only_or_suspended_is_denied(client: httpx.AsyncClient, route: Route, turn: Turn) -> None:
    answer = await call(client, route, turn)
    assert (answer.status_code, errors(answer)) == (403, ["DENIED"]), answer.text


@pytest.mark.parametrize("turn", ["no deletions"], indirect=True)
@pytest.mark.parametrize("route", WRITING, ids=str)
async def test_without_deletions_only_those_are_unsupported(
    client: httpx.AsyncClient, route: Route, turn: Turn
) -> None:
    answer = await call(client, route, turn)
    if route.template == "/v2/<name>/_distsql/restore":
        assert (answer.status_code, errors(answer)) == (409, ["NAME_INVALID"]), answer.text  # the repository is there
    elif need_of(route.handler) in DELETING:
        assert (answer.status_code, errors(answer)) == (405, ["UNSUPPORTED"]), answer.text
    else:
        assert answer.is_success, answer.text


async def test_a_full_quota_is_denied_with_use_and_limit_and_announced_before(
    client: httpx.AsyncClient, registry: Registry
) -> None:
    await push_image(client, "acme/web", b"x" * 963, tags=["v1"])
    await Tenants(registry.backend.everything, ADMINISTRATOR).set("acme", {"quota_bytes": 1001})
    content = b"y"
    answer = await client.post("/v2/acme/web/blobs/uploads/", params={"digest": digest_of(content)}, content=content)
    assert answer.status_code == 201
    assert answer.headers["warning"].startswith('299 - "acme uses 1000 of the 1001 bytes')
    content = b"zz"
    answer = await client.post("/v2/acme/web/blobs/uploads/", params={"digest": digest_of(content)}, content=content)
    assert (answer.status_code, errors(answer)) == (403, ["DENIED"])
    error = answer.json()["errors"][0]
    assert error["detail"] == {"measure": "stored_bytes", "use": 1001, "limit": 1001}
    assert "1001 of the 1001 bytes" in error["message"]
