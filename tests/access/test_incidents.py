"""What the audit hears of refusals and logins: who, what, from where, why, how often; and what a flood leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest

from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.app import Registry, create_authorizer
from distsql.errors import CatalogueUnavailableError
from distsql.registry.incidents import Incidents
from distsql.registry.tokens import token_id
from distsql.settings import Settings
from distsql.sql.database import Database
from distsql.values import Incident
from tests.access.conftest import World

Sql = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
async def heard(registry: Registry, settings: Settings, world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that tells the audit."""
    authorizer = create_authorizer(registry.backend, settings)
    application = Application(
        registry, limits=Limits(), access_log=None, authorizer=authorizer, incidents=registry.incidents
    )
    transport = httpx.ASGITransport(app=application, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://registry.test") as client:
        client.headers["user-agent"] = "tests/1"
        yield client
    await authorizer.authenticator.close()


async def incidents(registry: Registry, sql: Sql, columns: str) -> list[tuple[object, ...]]:
    await registry.incidents.flush()
    return sql.execute(
        f"select {columns} from audit_events where outcome = 'refused' or action = 'login' order by at, id"
    ).fetchall()


async def test_a_login_and_what_is_done_with_its_token(
    heard: httpx.AsyncClient, world: World, registry: Registry, sql: Sql
) -> None:
    """The event of a change says which account and token it was; that of the login the same."""
    await world.make("acme/ci", "acme/web:pull,push")
    [(account,)] = sql.execute("select id from accounts where name = 'ci'").fetchall()
    answer = await heard.get(
        "/token", params={"scope": "repository:acme/web:pull,push"}, headers=world.basic("acme/ci")
    )
    token = answer.json()["token"]
    pushed = await heard.post(
        "/v2/acme/web/blobs/uploads/", headers={"authorization": f"Bearer {token}", "x-request-id": "push-1"}
    )
    assert pushed.status_code == 202
    assert await incidents(
        registry, sql, "actor, account_id, token_id, action, outcome, client_address, user_agent"
    ) == [("acme/ci", account, token_id(token), "login", "done", "192.0.2.7", "tests/1")]
    assert sql.execute(
        "select actor, account_id, token_id, client_address, request_id from audit_events where action = 'upload.begin'"
    ).fetchall() == [("acme/ci", account, token_id(token), "192.0.2.7", "push-1")]


async def test_failed_logins(heard: httpx.AsyncClient, world: World, registry: Registry, sql: Sql) -> None:
    """Of a name that nobody has too: those belong to the server, or to the tenant whose name it was."""
    await world.make("acme/ci", "acme/web:pull")
    await heard.get("/token", headers={**world.basic("acme/ci", "wrong"), "x-request-id": "login-1"})
    await heard.post("/token", data={"grant_type": "password", "username": "nobody/x", "password": "wrong"})
    await heard.get("/v2/acme/web/tags/list", headers=world.basic("acme/ci", "wrong"))
    found = await incidents(registry, sql, "(tenant_id > 0)::text, actor, action, outcome, cause, request_id")
    assert found[0] == ("true", "acme/ci", "login", "refused", "credentials", "login-1")
    assert found[1][:5] == ("false", "nobody/x", "login", "refused", "credentials")
    assert found[2][:5] == ("true", "acme/ci", "list_tags", "refused", "credentials")


async def test_refusals(heard: httpx.AsyncClient, world: World, registry: Registry, sql: Sql) -> None:
    """By rights and by settings; the question that every client begins with, without a token, is none."""
    await world.make("acme/reader", "acme/web:pull")
    await world.make("acme/root", "acme/**:pull,push,delete,admin")
    manifest = await world.push("acme/web", b"layer")
    assert (await heard.get("/v2/acme/web/manifests/latest")).status_code == 401
    reader, root = world.basic("acme/reader"), world.basic("acme/root")
    latest = "/v2/acme/web/manifests/latest"
    types = {"content-type": manifest.media_type}
    assert (await heard.put(latest, content=manifest.payload, headers={**reader, **types})).status_code == 403
    await world.tenants.set("acme", {"immutable_tags": ["latest"], "deletable": False})
    assert (await heard.delete(latest, headers=root)).status_code == 405
    await world.tenants.set("acme", {"read_only": True})
    assert (await heard.put(latest, content=manifest.payload, headers={**root, **types})).status_code == 403
    await registry.incidents.flush()
    assert sql.execute(
        "select actor, action, repository, reference, cause, (account_id > 0)::text from audit_events "
        "where outcome = 'refused' order by at, id"
    ).fetchall() == [
        ("acme/reader", "manifest.put", "acme/web", "latest", "rights", "true"),
        ("acme/root", "manifest.delete", "acme/web", "latest", "deletion", "true"),
        ("acme/root", "manifest.put", "acme/web", "latest", "read-only", "true"),
    ]


async def test_with_a_token_for_less(heard: httpx.AsyncClient, world: World, registry: Registry, sql: Sql) -> None:
    await world.make("acme/reader", "acme/web:pull")
    await world.push("acme/web", b"layer")
    digest = f"sha256:{'0' * 64}"
    headers = await world.token("acme/reader", "repository:acme/web:pull")
    for _ in range(3):
        assert (await heard.delete(f"/v2/acme/web/blobs/{digest}", headers=headers)).status_code == 401
    token = token_id(headers["authorization"].removeprefix("Bearer "))
    assert await incidents(registry, sql, "actor, action, digest_text(digest), cause, token_id, times") == [
        ("acme/reader", "blob.delete", digest, "rights", token, 3)
    ]


async def test_a_flood_leaves_few_rows(registry: Registry, sql: Sql) -> None:
    """Whatever changes from one to the next: names, tags, addresses, agents; their number is kept."""
    for number in range(5_000):
        registry.incidents.add(
            Incident(
                f"tenant{number}",
                f"tenant{number}/x",
                "manifest.get",
                "refused",
                "rights",
                repository=f"tenant{number}/web",
                reference=f"v{number}",
                client_address=f"192.0.2.{number}",
                user_agent=f"agent {number}",
            ),
            request_id=f"request-{number}",
        )
    await registry.incidents.flush()
    [(rows, total)] = sql.execute("select count(*), sum(times)::bigint from audit_events").fetchall()
    assert isinstance(rows, int)
    assert rows <= 1_001
    assert total == 5_000


async def test_while_the_catalogue_is_away_they_are_kept(
    registry: Registry, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(self: Database, work: object, **more: object) -> None:
        raise CatalogueUnavailableError("away")

    found = Incidents(registry.backend.everything, interval_s=0.05)
    with monkeypatch.context() as patched:
        patched.setattr(Database, "transact", away)
        found.add(Incident(None, "ann", "login", "refused", "credentials"), request_id="first")
        await asyncio.sleep(0.2)
        found.add(Incident(None, "ann", "login", "refused", "credentials"), request_id="second")
    async with asyncio.timeout(20):
        while not (rows := sql.execute("select times, request_id from audit_events").fetchall()):
            await asyncio.sleep(0.02)
    assert rows == [(2, "first")]
    await found.close()
