"""The token endpoint, and the challenge that leads there: as Docker's clients use them."""

from __future__ import annotations

import base64
import json
import re
import sys

import httpx
import pytest

from distsql.api.application import Application
from distsql.api.logs import AccessLog
from distsql.api.requests import Limits
from distsql.app import create_authorizer
from distsql.registry import authentication, credentials
from distsql.settings import Settings
from tests.access.conftest import World


@pytest.fixture
async def pushed(world: World) -> World:
    await world.push("acme/web")
    await world.push("acme/api")
    await world.make("acme/ci", "acme/web:pull,push", "acme/api:pull")
    return world


def granted(token: str) -> dict[str, set[str]]:
    """What a token says to its bearer, by name."""
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return {entry["name"]: set(entry["actions"]) for entry in claims["access"]}


async def test_the_challenge_says_where_and_what_for(world: World) -> None:
    """Realm, service and scope, as the client addresses the registry (PROTOCOL 0.6)."""
    answer = await world.http.get("/v2/")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="http://registry.test/token",service="distsql"'
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
    for method, path, scope in [
        ("GET", "/v2/acme/web/tags/list", "repository:acme/web:pull"),
        ("HEAD", "/v2/web/manifests/latest", "repository:web:pull"),
        ("PUT", "/v2/acme/web/manifests/latest", "repository:acme/web:pull,push"),
        ("DELETE", "/v2/acme/web/manifests/latest", "repository:acme/web:delete"),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
        (
            "POST",
            f"/v2/acme/web/blobs/uploads/?mount=sha256:{'0' * 64}&from=acme/api",
            "repository:acme/web:pull,push repository:acme/api:pull",
        ),
    ]:
        answer = await world.http.request(method, path)
        assert answer.status_code == 401
        assert f'scope="{scope}"' in answer.headers["www-authenticate"]


async def test_the_challenge_is_not_the_hosts_to_break(world: World) -> None:
    """What a client says of its host ends neither the quotes nor the header."""
    answer = await world.http.get("/v2/", headers={"host": 'x",service="evil'})
    assert re.fullmatch(r'Bearer realm="[^",]*",service="distsql"', answer.headers["www-authenticate"])


async def test_login_is_told_by_the_base(pushed: World) -> None:
    """`docker login`: a token without scopes opens the base, and nothing else."""
    header = await pushed.token("acme/ci")
    assert await pushed.status("GET", "/v2/", header) == 200
    assert await pushed.status("GET", "/v2/acme/web/tags/list", header) == 401
    assert await pushed.status("GET", "/v2/_catalog", header) == 401


async def test_the_intersection_is_granted(pushed: World) -> None:
    """Several scopes, of which the account may do a part; what isn't granted is left out, and no error."""
    answer = await pushed.ask(
        "acme/ci",
        "repository:acme/web:pull,push,delete",
        "repository:acme/api:* repository:acme/secret:pull repository(plugin):acme/api:pull",
        "repository:OTHER:pull",
        "nonsense",
        "repository:other/web:pull",
    )
    assert answer.status_code == 200
    assert granted(answer.json()["token"]) == {"acme/web": {"pull", "push"}, "acme/api": {"pull"}}
    assert answer.json()["scope"] == "repository:acme/web:pull,push repository:acme/api:pull"
    assert answer.json()["access_token"] == answer.json()["token"]
    assert 0 < answer.json()["expires_in"] <= 300
    assert answer.headers["cache-control"] == "no-store"


async def test_a_token_opens_what_it_names_and_nothing_else(pushed: World) -> None:
    header = await pushed.token("acme/ci", "repository:acme/web:pull")
    assert await pushed.status("GET", "/v2/acme/web/manifests/latest", header) == 200
    assert await pushed.status("POST", "/v2/acme/web/blobs/uploads/", header) == 401
    assert await pushed.status("GET", "/v2/acme/api/manifests/latest", header) == 401
    refused = await pushed.http.post("/v2/acme/web/blobs/uploads/", headers=header)
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert 'scope="repository:acme/web:pull,push"' in refused.headers["www-authenticate"]


async def test_the_catalogue_has_a_scope(pushed: World) -> None:
    """`registry:catalog:*` shows what the account may pull from, whatever else the token names."""
    await pushed.push("acme/secret")
    await pushed.push("other/web")
    header = await pushed.token("acme/ci", "registry:catalog:*")
    answer = await pushed.http.get("/v2/_catalog", headers=header)
    assert answer.json() == {"repositories": ["acme/api", "acme/web"]}
    first = await pushed.http.get("/v2/_catalog?n=1", headers=header)
    assert first.json() == {"repositories": ["acme/api"]}
    assert 'rel="next"' in first.headers["link"]
    assert granted((await pushed.ask(None, "registry:catalog:*")).json()["token"]) == {}


async def test_wrong_secrets(pushed: World) -> None:
    """One answer for whatever is wrong, and it doesn't tell what."""
    answers = [
        await pushed.http.get("/token", headers=pushed.basic(login, secret))
        for login, secret in [("acme/ci", "wrong"), ("acme/nobody", "x"), ("nobody/ci", "x"), ("", ""), ("ACME", "x")]
    ]
    assert {(each.status_code, each.text) for each in answers} == {(401, answers[0].text)}
    assert answers[0].headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize("value", ["Basic", "Basic !", "Basic eA==", "Digest x", "Bearer x", "Basic " + "A" * 50_000])
async def test_headers_that_are_none(world: World, value: str) -> None:
    """401 at the endpoint and on the API."""
    for path in ("/token", "/v2/"):
        assert await world.status("GET", path, {"authorization": value}) == 401


async def test_the_oauth2_way(pushed: World) -> None:
    """POST with a password; offline access comes with a refresh token, which gives access tokens of its own."""
    form = {
        "grant_type": "password",
        "service": "distsql",
        "client_id": "tests",
        "username": "acme/ci",
        "password": pushed.secrets["acme/ci"],
        "scope": "repository:acme/web:pull repository:acme/api:pull",
        "access_type": "offline",
    }
    answer = (await pushed.http.post("/token", data=form)).json()
    assert set(granted(answer["access_token"])) == {"acme/web", "acme/api"}
    again = {
        "grant_type": "refresh_token",
        "refresh_token": answer["refresh_token"],
        "scope": "repository:acme/web:push",
    }
    refreshed = (await pushed.http.post("/token", data=again)).json()
    assert granted(refreshed["access_token"]) == {"acme/web": {"push"}}
    assert refreshed["refresh_token"] == answer["refresh_token"]
    assert await pushed.status("GET", "/v2/", {"authorization": f"Bearer {answer['refresh_token']}"}) == 401
    wrong = await pushed.http.post("/token", data={**again, "refresh_token": answer["access_token"]})
    assert wrong.status_code == 401


async def test_docker_login_gets_a_refresh_token_by_get(pushed: World) -> None:
    answer = await pushed.ask("acme/ci", offline_token="true")
    assert answer.json()["refresh_token"]
    assert "refresh_token" not in (await pushed.ask("acme/ci")).json()
    assert "refresh_token" not in (await pushed.ask(None, offline_token="true")).json()


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({}, 400),
        ({"grant_type": "authorization_code"}, 400),
        ({"grant_type": "password"}, 401),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 401),
        ({"grant_type": "password", "username": "\0", "password": "\0"}, 401),
    ],
)
async def test_forms_that_are_none(world: World, form: dict[str, str], status: int) -> None:
    assert (await world.http.post("/token", data=form)).status_code == status


async def test_a_form_has_a_limit(world: World) -> None:
    assert await world.status("POST", "/token", {}, content=b"x" * 70_000) == 413
    assert await world.status("POST", "/token", {}, content=b"\xff&=&&&") == 400
    assert await world.status("PUT", "/token", {}) == 405


async def test_basic_straight_on_the_api(pushed: World) -> None:
    """Without a token: the account's grants as they are now. 403 for what it may not, there or not."""
    header = pushed.basic("acme/ci")
    assert await pushed.status("GET", "/v2/", header) == 200
    assert await pushed.status("GET", "/v2/acme/web/manifests/latest", header) == 200
    assert await pushed.status("POST", "/v2/acme/web/blobs/uploads/", header) == 202
    assert await pushed.status("DELETE", "/v2/acme/web/manifests/latest", header) == 403
    assert await pushed.status("POST", "/v2/acme/api/blobs/uploads/", header) == 403
    assert (await pushed.http.get("/v2/_catalog", headers=header)).json()["repositories"] == ["acme/api", "acme/web"]


async def test_public_repositories(pushed: World) -> None:
    """Everybody pulls, by an anonymous token, from what is public, and does nothing else there."""
    await pushed.registry.namespace.repository("acme/api").set_public(public=True)
    header = await pushed.token(None, "repository:acme/api:pull,push,delete", "repository:acme/web:pull")
    assert await pushed.status("GET", "/v2/acme/api/manifests/latest", header) == 200
    assert await pushed.status("POST", "/v2/acme/api/blobs/uploads/", header) == 401
    assert await pushed.status("DELETE", "/v2/acme/api/manifests/latest", header) == 401
    assert await pushed.status("GET", "/v2/acme/web/manifests/latest", header) == 401
    assert await pushed.status("GET", "/v2/acme/api/manifests/latest", {}) == 401


async def test_public_tenants(pushed: World) -> None:
    """All of a tenant's repositories; another tenant's account too, by token or by its secret."""
    await pushed.make("other/ci")
    await pushed.tenants.set_public("acme", public=True)
    for login in (None, "other/ci"):
        header = await pushed.token(login, "repository:acme/web:pull")
        assert await pushed.status("GET", "/v2/acme/web/manifests/latest", header) == 200
    assert await pushed.status("GET", "/v2/acme/web/manifests/latest", pushed.basic("other/ci")) == 200
    assert await pushed.status("PUT", "/v2/acme/web/manifests/latest", pushed.basic("other/ci")) == 403


async def test_a_push_makes_its_repository_with_one_token(world: World) -> None:
    """A token for a name that is free pushes to it from the first request to the last."""
    await world.make("acme/ci", "acme/**:pull,push")
    header = await world.token("acme/ci", "repository:acme/new:pull,push")
    assert await world.status("GET", "/v2/acme/new/tags/list", header) == 404
    begun = await world.http.post("/v2/acme/new/blobs/uploads/", headers=header)
    assert begun.status_code == 202
    digest = "sha256:" + "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert await world.status("PUT", f"{begun.headers['location']}?digest={digest}", header) == 201
    assert await world.status("HEAD", f"/v2/acme/new/blobs/{digest}", header) == 200


async def test_no_secret_in_a_log(pushed: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither names' secrets nor tokens: paths are logged without their query, and no header but the user agent."""
    log = AccessLog(sys.stderr)
    authorizer = create_authorizer(pushed.registry.backend, Settings(auth="token"))
    application = Application(pushed.registry, limits=Limits(), access_log=log, authorizer=authorizer)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=application), base_url="http://x.test") as client:
        secret = pushed.secrets["acme/ci"]
        answer = await client.get("/token", params={"password": secret}, headers=pushed.basic("acme/ci"))
        token = answer.json()["token"]
        await client.get("/v2/", headers={"authorization": f"Bearer {token}"})
        await client.get("/v2/", headers={"authorization": f"Bearer {token}x"})
    log.flush()
    await authorizer.authenticator.close()
    logged = capsys.readouterr().err
    assert logged.count("\n") == 3
    assert not [part for part in (secret, token, pushed.basic("acme/ci")["authorization"]) if part in logged]


class Hasher:
    """Notes what it compares with, and finds everything right."""

    def __init__(self, heard: list[str]) -> None:
        self.heard = heard

    def hash(self, secret: str) -> str:
        return f"hash of {secret}"

    def verify(self, secret_hash: str, secret: str) -> bool:
        del secret
        self.heard.append(secret_hash)
        return True


async def test_nobody_s_secret_is_compared_as_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harbor GHSA-mq6f-5xh5-hgcf: who isn't there costs a hash as well, so time doesn't tell who is."""
    compared: list[bool] = []

    def is_secret(secret: str, secret_hash: str | None) -> bool:
        compared.append(secret_hash is not None)
        return credentials.is_secret(secret, secret_hash)

    monkeypatch.setattr(authentication, "is_secret", is_secret)
    await world.make("acme/ci")
    for login in ("acme/ci", "acme/nobody", "nowhere/ci"):
        assert await world.status("GET", "/token", world.basic(login, "wrong")) == 401
    assert compared == [True, False, False]
    hashed: list[str] = []
    monkeypatch.setattr(credentials, "_HASHER", Hasher(hashed))
    assert not credentials.is_secret("wrong", None)
    assert len(hashed) == 1
