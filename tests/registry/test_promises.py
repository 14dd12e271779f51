"""Who was told that something is there can push what refers to it: HEAD and a repeated push are a promise."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import ANY, AsyncMock

import psycopg
import pytest

from distsql.app import Registry
from distsql.contract import Layer
from distsql.errors import BlobUnknownError, ManifestReferencesUnknownError, ManifestUnknownError
from distsql.oci.manifest import ParsedManifest
from distsql.registry.namespace import StoredNamespace
from distsql.registry.repositories import StoredRepository
from tests.registry.pushing import image, index, push_blob, push_image
from tests.registry.soundness import namespace_of
from tests.registry.test_garbage import collect, collect_untagged, collector, later

HOUR = timedelta(hours=1)
Owner = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
async def web(registry: Registry, namespace: StoredNamespace) -> StoredRepository:
    """In a tenant that collects what has no tag."""
    repository = namespace.repository("acme/web")
    await push_image(repository, b"layer", tags=["v1"])
    await collect_untagged(registry)
    return repository


def promised(sql: Owner) -> list[tuple[object, ...]]:
    return sql.execute("select digest, promised_at from manifests where promised_at is not null").fetchall()


@pytest.mark.parametrize("way", ["exists", "get", "put"])
async def test_an_index_can_be_pushed_after_asking_for_its_child(
    registry: Registry, web: StoredRepository, sql: Owner, way: str
) -> None:
    child = await push_image(web, b"layer", n="child")
    later(sql, "59 minutes")
    if way == "exists":
        assert await web.manifests.exists(child.digest)
    elif way == "get":
        await web.manifests.get(child.digest)
    else:
        await web.manifests.put(child)
    later(sql, "2 minutes")
    await collect(registry, HOUR, HOUR)
    await web.manifests.put(index(child), ["multi"])
    later(sql, "2 hours")
    await collect(registry, HOUR, HOUR)
    assert await web.manifests.exists(child.digest)


async def ask_head(layer: Layer) -> None:
    scope: dict[str, Any] = {"type": "http", "method": "HEAD", "path": "/", "headers": []}
    await layer.handler(scope)(scope, AsyncMock(), AsyncMock())


@pytest.mark.parametrize("way", ["exists", "promised", "handler", "reading"])
async def test_a_manifest_can_be_pushed_after_asking_for_its_blob(
    registry: Registry, web: StoredRepository, sql: Owner, way: str
) -> None:
    """Reading it is no question: whoever reads has the bytes."""
    digest = await push_blob(web, b"new")
    later(sql, "59 minutes")
    if way == "exists":
        assert await web.layers.exists(digest)
    else:
        layer = await web.layers.fetch(digest, promised=way == "promised")
        assert await layer.read() == b"new"
        if way == "handler":
            await ask_head(layer)
    later(sql, "2 minutes")
    await collect(registry, HOUR, HOUR)
    assert await web.layers.exists(digest) == (way != "reading")


async def test_a_blob_that_went_meanwhile_is_not_promised(
    registry: Registry, web: StoredRepository, sql: Owner
) -> None:
    layer = await web.layers.fetch(await push_blob(web, b"new"))
    later(sql, "61 minutes")
    await collect(registry, HOUR, HOUR)
    with pytest.raises(BlobUnknownError):
        await ask_head(layer)


async def test_it_goes_when_nothing_followed(registry: Registry, web: StoredRepository, sql: Owner) -> None:
    child = await push_image(web, b"layer", n="child")
    later(sql, "59 minutes")
    assert await web.manifests.exists(child.digest)
    sql.execute("update manifests set promised_at = promised_at - interval '61 minutes'")
    later(sql, "61 minutes")
    assert (await collect(registry, HOUR, HOUR)).manifests == 1
    with pytest.raises(ManifestUnknownError):
        await web.manifests.get(child.digest)


async def test_a_child_whose_index_was_deleted_is_promised(
    registry: Registry, web: StoredRepository, sql: Owner
) -> None:
    child = await push_image(web, b"layer", n="child")
    parent = index(child)
    await web.manifests.put(parent, ["multi"])
    later(sql, "2 days")
    await web.manifests.delete(parent.digest)
    later(sql, "59 minutes")
    assert await web.manifests.exists(child.digest)
    later(sql, "2 minutes")
    await collect(registry, HOUR, HOUR)
    await web.manifests.put(parent, ["multi"])


async def test_a_referrer_that_was_asked_for_stays_when_its_subject_went(
    registry: Registry, namespace: StoredNamespace, sql: Owner
) -> None:
    """Everywhere: referrers follow their subjects also where untagged manifests are kept."""
    web = namespace.repository("acme/web")
    subject = await push_image(web, b"layer", tags=["v1"])
    asked, other = [await push_image(web, b"layer", subject=subject.digest, n=n) for n in "12"]
    await web.manifests.delete(subject.digest)
    later(sql, "59 minutes")
    assert await web.manifests.exists(asked.digest)
    later(sql, "2 minutes")
    assert (await collect(registry, HOUR, HOUR)).manifests == 0
    await web.manifests.put(index(asked), ["signatures"])
    sql.execute("update manifests set promised_at = promised_at - interval '61 minutes'")
    later(sql, "61 minutes")
    assert (await collect(registry, HOUR, HOUR)).manifests == 1
    assert await web.manifests.exists(asked.digest)
    assert not await web.manifests.exists(other.digest)


async def test_only_what_may_go_is_written(registry: Registry, web: StoredRepository, sql: Owner) -> None:
    """No write for what is young, has a tag or an index, or was promised a moment ago."""
    tagged = await push_image(web, b"layer", tags=["v2"])
    held = await push_image(web, b"layer", n="held")
    await web.manifests.put(index(held), ["multi"])
    loose = await push_image(web, b"layer", n="loose")
    for each in (tagged, held, loose):
        assert await web.manifests.exists(each.digest)
    assert promised(sql) == []
    later(sql, "31 minutes")
    for each in (tagged, held, loose):
        assert await web.manifests.exists(each.digest)
    [before] = promised(sql)
    assert before == (loose.digest.packed, ANY)
    assert await web.manifests.exists(loose.digest)
    assert promised(sql) == [before]


@pytest.mark.slow
@pytest.mark.usefixtures("web")
async def test_asking_and_collecting_at_the_same_time(registry: Registry) -> None:
    """HAZARDS, Quay 4c40e06: push, HEAD and collection of one child; an index after a yes is never refused."""
    grace = timedelta(milliseconds=400)
    web = namespace_of(replace(registry.backend, grace=grace)).repository("acme/web")
    done = asyncio.Event()
    gone = 0

    async def keep_collecting() -> None:
        nonlocal gone
        while not done.is_set():
            gone += (await collector(registry, grace).run()).manifests

    async def build(worker: int) -> None:
        child = image(b"layer", worker=str(worker))
        for number in range(6):
            await asyncio.sleep((0.1, 0.35, 0.45)[number % 3])  # well before, just before, just after the grace
            started = asyncio.get_running_loop().time()
            if not await web.manifests.exists(child.digest):
                await web.manifests.put(child)
            await refer(child, number, started)

    async def refer(child: ParsedManifest, number: int, started: float) -> None:
        parent = index(child, image(b"layer", tags=str(number)))
        await web.manifests.put(image(b"layer", tags=str(number)))
        try:
            await web.manifests.put(parent)
        except ManifestReferencesUnknownError:
            assert asyncio.get_running_loop().time() - started > grace.total_seconds() / 2, "promised, and gone"
            return
        await web.manifests.delete(parent.digest)

    collecting = asyncio.create_task(keep_collecting())
    await asyncio.gather(*map(build, range(4)))
    done.set()
    await collecting
    assert gone
