"""What counts as a pull, and when it is written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import psycopg
import pytest

from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.app import Registry
from distsql.oci.digest import Digest
from distsql.registry.namespace import StoredNamespace
from distsql.registry.stored_layer import StoredLayer
from distsql.settings import Settings
from tests.registry.counting import count_pulls
from tests.registry.pushing import push_image

Sql = psycopg.Connection[tuple[object, ...]]
CONTENT = b"0123456789" * 10_000  # more than is read in one go


@pytest.fixture
async def client(registry: Registry) -> AsyncIterator[httpx.AsyncClient]:
    application = Application(registry, limits=Limits(), access_log=None, pulls=registry.pulls)
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://registry.test") as opened:
        yield opened


def days(sql: Sql) -> list[tuple[object, ...]]:
    return sql.execute(
        "select t.name || '/' || r.path, d.day, actor_kind, requests, pulls, sent_bytes, redirected_bytes "
        "from daily_pulls d join tenants t on t.id = d.tenant_id "
        "join repositories r on (r.tenant_id, r.id) = (d.tenant_id, d.repository_id) order by 1, 2, 3"
    ).fetchall()


def counted(sql: Sql, table: str) -> dict[object, object]:
    key = "name" if table == "tag_pulls" else "digest_text(digest)"
    return {row[0]: row[1] for row in sql.execute(f"select {key}, pulls from {table}")}


async def test_a_pull_by_tag(
    client: httpx.AsyncClient, registry: Registry, namespace: StoredNamespace, sql: Sql
) -> None:
    """The GET of the manifest is the pull; blobs add bytes, HEAD nothing but that its tag is in use."""
    before = datetime.now(UTC)
    pushed = await push_image(namespace.repository("acme/web"), CONTENT, tags=["latest"])
    await client.head("/v2/acme/web/manifests/latest")
    await client.get("/v2/acme/web/manifests/latest")
    blob = f"/v2/acme/web/blobs/{Digest.of(CONTENT)}"
    await client.head(blob)
    await client.get(blob)
    await client.get(blob, headers={"range": "bytes=10-19"})
    assert days(sql) == []
    await count_pulls(registry)
    size = len(pushed.payload) + len(CONTENT) + 10
    assert days(sql) == [("acme/web", datetime.now(UTC).date(), "anonymous", 5, 1, size, 0)]
    assert counted(sql, "manifest_pulls") == {str(pushed.digest): 1}
    assert counted(sql, "tag_pulls") == {"latest": 1}
    for table in ("manifest_pulls", "tag_pulls"):
        [(at,)] = sql.execute(f"select last_pulled_at from {table}").fetchall()
        assert isinstance(at, datetime)
        assert before < at < datetime.now(UTC)


async def test_by_digest_no_tag_is_pulled(
    client: httpx.AsyncClient, registry: Registry, namespace: StoredNamespace, sql: Sql
) -> None:
    """As containerd does it: HEAD of the tag, GET by digest. The tag is in use all the same."""
    pushed = await push_image(namespace.repository("acme/web"), b"layer", tags=["latest", "other"])
    await client.head("/v2/acme/web/manifests/latest")
    await client.get(f"/v2/acme/web/manifests/{pushed.digest}")
    await count_pulls(registry)
    assert counted(sql, "manifest_pulls") == {str(pushed.digest): 1}
    assert counted(sql, "tag_pulls") == {"latest": 0}
    assert [row[3:5] for row in days(sql)] == [(2, 1)]


async def test_what_was_not_given_out_is_no_pull(
    client: httpx.AsyncClient, registry: Registry, namespace: StoredNamespace, sql: Sql
) -> None:
    pushed = await push_image(namespace.repository("acme/web"), b"layer", tags=["latest"])
    unchanged = await client.get("/v2/acme/web/manifests/latest", headers={"if-none-match": f'"{pushed.digest}"'})
    assert unchanged.status_code == 304
    for path in ("acme/web/manifests/none", "acme/none/manifests/latest", "Acme/web/manifests/latest"):
        assert (await client.get(f"/v2/{path}")).status_code in {400, 404}
    await count_pulls(registry)
    assert [row[3:] for row in days(sql)] == [(1, 0, 0, 0)]
    assert counted(sql, "manifest_pulls") == {}
    assert counted(sql, "tag_pulls") == {"latest": 0}


async def test_a_redirect_counts_what_the_store_sends(
    client: httpx.AsyncClient,
    registry: Registry,
    namespace: StoredNamespace,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def elsewhere(layer: StoredLayer) -> str:
        return "http://store.test/key"

    await push_image(namespace.repository("x"), CONTENT)
    monkeypatch.setattr(StoredLayer, "redirect_url", elsewhere)
    for name in ("x", "library/x"):  # one repository
        answer = await client.get(f"/v2/{name}/blobs/{Digest.of(CONTENT)}")
        assert answer.status_code == 307
    await count_pulls(registry)
    assert [(row[0], *row[3:]) for row in days(sql)] == [("library/x", 2, 0, 0, 2 * len(CONTENT))]


async def test_two_servers_add_up(settings: Settings, registry: Registry, namespace: StoredNamespace, sql: Sql) -> None:
    """Many things at once, written by both in any order of pulling: neither waits for the other for ever."""
    names = [f"acme/web{number}" for number in range(10)]
    pushed = [await push_image(namespace.repository(name), b"layer", tags=["a", "b"]) for name in names]
    async with Registry(settings) as other:
        for _ in range(5):
            for pulls, order in ((registry.pulls, 1), (other.pulls, -1)):
                for name, manifest in list(zip(names, pushed, strict=True))[::order]:
                    for tag in "ab"[::order]:
                        pulls.add(name, "robot", tag, manifest.digest, 1, 0, 0)
            await asyncio.gather(count_pulls(registry), count_pulls(other))
    assert [row[4] for row in days(sql)] == [20] * 10
    assert sql.execute("select distinct pulls from manifest_pulls").fetchall() == [(20,)]
    assert sql.execute("select count(*), min(pulls), max(pulls) from tag_pulls").fetchall() == [(20, 10, 10)]
