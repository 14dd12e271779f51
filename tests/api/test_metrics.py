"""`/metrics`: what is counted, who may read it, and that several workers are told as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from distsql.api.application import Application
from distsql.api.metrics import SECONDS, Metrics
from distsql.api.requests import Limits
from distsql.api.scrapes import Scrapes
from distsql.app import Registry, create_scrapes
from distsql.errors import CatalogueUnavailableError
from distsql.registry.namespace import StoredNamespace
from distsql.settings import Settings
from tests.registry.pushing import push_image

Values = dict[tuple[str, ...], float]


def read(text: str) -> Values:
    """Every sample by its name and its labels' values, in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@asynccontextmanager
async def worker(settings: Settings, folder: Path | None = None) -> AsyncIterator[tuple[httpx.AsyncClient, Scrapes]]:
    """A process's application, with what it counts."""
    metrics = Metrics()
    async with Registry(settings, observe=metrics.add_statement) as registry:
        scrapes = create_scrapes(registry, settings, metrics, folder=folder)
        application = Application(registry, limits=Limits(), access_log=None, scrapes=scrapes)
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://registry.test") as client:
            yield client, scrapes


async def test_requests_statements_bytes_and_the_pool(settings: Settings, namespace: StoredNamespace) -> None:
    pushed = await push_image(namespace.repository("acme/web"), b"layer", tags=["latest"])
    async with worker(settings) as (client, _):
        for _ in range(3):
            await client.get("/v2/acme/web/manifests/latest")
        await client.head("/v2/acme/web/manifests/latest")
        await client.get("/v2/acme/web/manifests/none")
        await client.post("/v2/acme/web/blobs/uploads/")
        await client.put("/v2/acme/web/manifests/other", content=pushed.payload)
        await client.get("/nowhere")
        await client.request("BREW", "/v2/")
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found = read(answer.text)
    # code, method, route
    assert found["distsql_requests_total", "200", "GET", "get_manifest"] == 3
    assert found["distsql_requests_total", "200", "HEAD", "get_manifest"] == 1
    assert found["distsql_requests_total", "404", "GET", "get_manifest"] == 1
    assert found["distsql_requests_total", "202", "POST", "begin_upload"] == 1
    assert found["distsql_requests_total", "404", "GET", "none"] == 1
    assert found["distsql_requests_total", "405", "other", "none"] == 1
    assert found["distsql_request_seconds_count", "get_manifest"] == 5
    assert found["distsql_request_seconds_bucket", "+Inf", "get_manifest"] == 5
    assert found["distsql_request_seconds_sum", "get_manifest"] > 0
    assert found["distsql_sent_bytes_total", "get_manifest"] >= 3 * len(pushed.payload)
    assert found["distsql_received_bytes_total", "put_manifest"] == len(pushed.payload)
    assert found["distsql_statement_seconds_count", "find_tagged_manifest"] == 5
    assert found["distsql_pool_connections", "busy"] == 0
    assert found["distsql_pool_connections", "free"] == 1
    assert found["distsql_pool_connections", "most"] == settings.pool_size
    assert found["distsql_uploads",] == 1


async def test_labels_are_those_of_the_code(settings: Settings) -> None:
    """Nothing that people name is a label: ten thousand tenants have as many series as one."""
    async with worker(settings) as (client, _):
        sizes = []
        for number in range(3):
            for path in ("manifests/v", "blobs/sha256:", "tags/list", "nonsense"):
                await client.get(f"/v2/tenant{number}/repository{number}/{path}", headers={"user-agent": f"x{number}"})
            text = (await client.get("/metrics")).text
            sizes.append(len(read(text)))
            assert f"tenant{number}" not in text
            assert f"repository{number}" not in text
    assert sizes[1] == sizes[2]


# Of every tenant something that the catalogue tells about.
CROWD = """
insert into tenants (name) select 'tenant-' || n from generate_series({0}, {1}) n;
insert into repositories (tenant_id, path) select id, 'crowd' from tenants where id > 0 on conflict do nothing;
insert into uploads (tenant_id, repository_id, uuid, algorithm, store_key, actor, expires_at)
    select tenant_id, id, gen_random_uuid(), 'sha256', '', 'ann', now() from repositories;
insert into garbage_queue (tenant_id, id, kind, repository_id)
    select tenant_id, id, 'untagged', id from repositories on conflict do nothing
"""


@pytest.mark.slow
async def test_ten_thousand_tenants_have_as_many_series_as_one(
    settings: Settings, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Rows of all of them, and requests in the names of many, by several routes, that are answered well or not."""
    async with worker(settings) as (client, scrapes):

        async def ask(tenant: str) -> None:
            for repository in ("crowd", tenant):
                await client.post(f"/v2/{tenant}/{repository}/blobs/uploads/")
                for path in (f"manifests/{tenant}", "tags/list"):
                    await client.get(f"/v2/{tenant}/{repository}/{path}", headers={"user-agent": tenant})

        async def series() -> set[tuple[str, ...]]:
            scrapes._found = {}, 0  # else the catalogue's part may be some seconds old
            text = (await client.get("/metrics")).text
            assert "tenant-" not in text
            return set(read(text))

        sql.execute(CROWD.format(1, 1))
        for _ in range(2):
            await ask("tenant-1")
            of_one = await series()
        sql.execute(CROWD.format(2, 10_000))
        for number in range(2, 30):
            await ask(f"tenant-{number}")
        assert await series() == of_one
        assert len(of_one) < 1000


async def test_times_are_in_their_buckets() -> None:
    metrics = Metrics()
    for seconds in (0.0, SECONDS[0], SECONDS[0] * 1.01, SECONDS[-1] * 2):
        metrics.add_request("get_blob", "GET", 200, seconds=seconds, sent=0, received=0)
    assert metrics.counts.request_seconds["get_blob"].counts == [2, 1, *[0] * (len(SECONDS) - 2), 1]


async def test_workers_are_told_as_one(settings: Settings, tmp_path: Path) -> None:
    """Whichever is asked; one that ended is counted still, so that totals never fall."""
    async with worker(settings, tmp_path) as (first, _), worker(settings, tmp_path) as (second, scrapes):
        for client, number in ((first, 2), (second, 3)):
            for _ in range(number):
                await client.get("/healthz")
        scrapes.begin()
        key = ("distsql_requests_total", "200", "GET", "healthz")
        async with asyncio.timeout(20):
            while read((await first.get("/metrics")).text).get(key) != 5:
                await asyncio.sleep(0.05)
        await second.get("/healthz")
        await scrapes.close()
        found = read((await first.get("/metrics")).text)
        assert found[key] == 6
        assert found["distsql_pool_connections", "most"] == settings.pool_size  # of those that live


@pytest.mark.parametrize(
    ("auth", "token", "shown", "status"),
    [
        ("none", "", None, 200),
        ("token", "", None, 404),
        ("token", "", "Bearer ", 404),
        ("token", "known", None, 401),
        ("token", "known", "Bearer wrong", 401),
        ("token", "known", "Bearer known", 200),
        ("none", "known", None, 401),
        ("none", "known", "Bearer known", 200),
    ],
)
async def test_who_may_read_them(settings: Settings, auth: str, token: str, shown: str | None, status: int) -> None:
    async with worker(replace(settings, auth=auth, metrics_token=token)) as (client, _):
        answer = await client.get("/metrics", headers={"authorization": shown} if shown else {})
        assert answer.status_code == status
        assert ("distsql_requests" in answer.text) is (status == 200)


async def test_without_the_catalogue_there_are_the_others(settings: Settings, registry: Registry) -> None:
    async def away() -> dict[str, float | None]:
        raise CatalogueUnavailableError("away")

    scrapes = Scrapes(
        Metrics(), folder=None, token="", is_open=True, gauges=away, connections=lambda: {"busy": 1, "most": 10}
    )
    application = Application(registry, limits=Limits(), access_log=None, scrapes=scrapes)
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://registry.test") as client:
        found = read((await client.get("/metrics")).text)
    assert found["distsql_pool_connections", "busy"] == 1
    assert ("distsql_uploads",) not in found


async def test_what_waits_for_collection(sql: psycopg.Connection[tuple[object, ...]], registry: Registry) -> None:
    assert (await registry.gauges())["garbage_oldest_seconds"] is None
    sql.execute(
        "insert into garbage_queue (tenant_id, id, kind, repository_id, queued_at) "
        "values (0, 1, 'blob', 0, now()), (0, 2, 'tenant', 0, now() - interval '1 hour')"
    )
    oldest = (await registry.gauges())["garbage_oldest_seconds"]
    assert oldest is not None
    assert 3600 <= oldest < 4000
