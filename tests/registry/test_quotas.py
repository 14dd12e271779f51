"""Quotas: what tenants use is counted exactly, and never more than they may, however many push at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest

from distsql.contract import Namespace
from distsql.errors import QuotaExceededError, RegistryError
from distsql.oci.digest import Digest
from distsql.registry.context import Backend
from distsql.registry.garbage import GarbageCollector
from distsql.registry.reviews import Periods
from distsql.registry.tenants import Tenants
from distsql.sql.usage import UseRow
from distsql.values import Caller
from tests.registry.pushing import CONFIG, push_blob, push_image
from tests.registry.recounts import use_of
from tests.registry.soundness import namespace_of, opened

ADMINISTRATOR = Caller(actor="administrator")


@pytest.fixture
async def backend(database_url: str) -> AsyncIterator[Backend]:
    async with opened(database_url, pool_size=16) as machinery:
        yield machinery


@pytest.fixture
def namespace(backend: Backend) -> Namespace:
    return namespace_of(backend)


@pytest.fixture
def tenants(backend: Backend) -> Tenants:
    return Tenants(backend.everything, ADMINISTRATOR)


async def test_everything_is_counted(backend: Backend, namespace: Namespace) -> None:
    web, copy = namespace.repository("acme/web"), namespace.repository("acme/copy")
    first = await push_image(web, b"12345", tags=["a", "b"])
    assert await use_of(backend, "acme") == UseRow(len(CONFIG) + 5, 1, 1, 2)
    await push_image(copy, b"12345", tags=["a"])
    assert await use_of(backend, "acme") == UseRow(len(CONFIG) + 5, 2, 2, 3), "bytes are shared in the tenant"
    await push_image(web, b"12345", tags=["a", "b"])
    second = await push_image(web, b"12", tags=["b", "c"])
    await web.tags.tag("b", first.digest)
    await web.tags.tag("d", first.digest, None)
    assert await use_of(backend, "acme") == UseRow(len(CONFIG) + 7, 2, 3, 5)
    await web.tags.untag("d")
    await web.manifests.delete(second.digest)
    assert await use_of(backend, "acme") == UseRow(len(CONFIG) + 7, 2, 2, 3)
    await copy.remove()
    assert await use_of(backend, "acme") == UseRow(len(CONFIG) + 7, 1, 1, 2)
    await collect(backend)
    assert await use_of(backend, "acme") == UseRow(len(CONFIG) + 5, 1, 1, 2)


async def collect(backend: Backend) -> None:
    await GarbageCollector(
        backend, ADMINISTRATOR, periods=Periods(timedelta(0), timedelta(0)), notify=lambda what, count: None
    ).run()


QUOTAS = {
    "quota_bytes": "bytes of blobs",
    "quota_repositories": "repositories",
    "quota_manifests": "manifests",
    "quota_tags": "tags",
}


@pytest.mark.parametrize("quota", QUOTAS)
async def test_a_full_quota_refuses_and_tells_use_and_limit(
    backend: Backend, namespace: Namespace, tenants: Tenants, quota: str
) -> None:
    web, other = namespace.repository("acme/web"), namespace.repository("acme/other")
    await push_image(web, b"1", tags=["a"])
    use = await use_of(backend, "acme")
    limit = use[list(QUOTAS).index(quota)]
    await tenants.set("acme", {quota: limit})
    with pytest.raises(QuotaExceededError, match=f"uses {limit} of the {limit} {QUOTAS[quota]}"):
        await push_image(other, b"22", tags=["b"])
    await tenants.set("acme", {quota: None})
    await push_image(other, b"22", tags=["b"])
    assert (await use_of(backend, "acme")).stored_bytes == use.stored_bytes + 2


@pytest.mark.parametrize("quota", QUOTAS)
async def test_dropping_below_frees_at_once(
    backend: Backend, namespace: Namespace, tenants: Tenants, quota: str
) -> None:
    first, second, third = (namespace.repository(f"acme/{number}") for number in "123")
    await push_image(first, b"1", tags=["a"])
    await push_image(second, b"2", tags=["a"])
    use = await use_of(backend, "acme")
    await tenants.set("acme", {quota: use[list(QUOTAS).index(quota)]})
    with pytest.raises(QuotaExceededError):
        await push_image(third, b"3", tags=["a"])
    await second.remove()
    if quota == "quota_bytes":
        await collect(backend)
    await push_image(third, b"3", tags=["a"])
    await use_of(backend, "acme")


async def test_what_just_fits_is_taken(backend: Backend, namespace: Namespace, tenants: Tenants) -> None:
    """Also when it is more than any slot's part."""
    await tenants.create("acme")
    await tenants.set("acme", {"quota_bytes": 1000})
    web = namespace.repository("acme/web")
    await push_blob(web, b"x" * 600)
    await push_blob(web, b"y" * 390)
    with pytest.raises(QuotaExceededError, match="uses 990 of the 1000"):
        await push_blob(web, b"z" * 11)
    await push_blob(web, b"z" * 10)
    await web.layers.delete(Digest.of(b"y" * 390))
    await collect(backend)
    await push_blob(web, b"w" * 300)
    await use_of(backend, "acme")


async def test_a_session_outlives_its_refusal(namespace: Namespace, tenants: Tenants) -> None:
    await tenants.create("acme")
    await tenants.set("acme", {"quota_bytes": 3})
    web = namespace.repository("acme/web")
    async with await web.layers.upload() as upload:
        await upload.write(b"content")
    with pytest.raises(QuotaExceededError):
        await (await web.layers.resume(upload.uuid)).finish(Digest.of(b"content"))
    await tenants.set("acme", {"quota_bytes": 7})
    await (await web.layers.resume(upload.uuid)).finish(Digest.of(b"content"))
    async with await web.layers.fetch(Digest.of(b"content")) as layer:
        assert await layer.read() == b"content"


@pytest.mark.slow
@pytest.mark.parametrize("quota", [None, 2000])
async def test_soak(
    backend: Backend,
    namespace: Namespace,
    tenants: Tenants,
    sql: psycopg.Connection[tuple[object, ...]],
    quota: int | None,
) -> None:
    """64 at once push, tag, delete and remove in one tenant: counters are exact, and no quota is ever exceeded."""
    await tenants.create("acme")
    await tenants.set("acme", {"quota_bytes": quota, "quota_manifests": quota and 40, "quota_tags": quota and 60})
    refused = 0

    async def work(number: int) -> None:
        nonlocal refused
        choose = random.Random(number)
        for _ in range(6):
            repository = namespace.repository(f"acme/{choose.randrange(4)}")
            layer = bytes([choose.randrange(40)]) * choose.randrange(1, 100)
            tags = [f"v{choose.randrange(30)}" for _ in range(choose.randrange(3))]
            try:
                manifest = await push_image(repository, layer, tags=tags)
                if choose.random() < 0.3:
                    await repository.tags.tag("extra", manifest.digest)
                if choose.random() < 0.3:
                    await repository.manifests.delete(manifest.digest)
                if choose.random() < 0.05:
                    await repository.remove()
            except QuotaExceededError:
                refused += 1
            except RegistryError:
                pass

    running = asyncio.gather(*(work(number) for number in range(64)))
    while not running.done():
        use = await use_of(backend, "acme")
        if quota:
            assert use.stored_bytes <= quota
            assert use.manifests <= 40
            assert use.tags <= 60
        await asyncio.sleep(0.05)
    await running
    await use_of(backend, "acme")
    # Else they only waited for each other, and nothing was added up.
    assert len(sql.execute("select slot from tenant_usage where manifests <> 0").fetchall()) > 1
    await collect(backend)
    await use_of(backend, "acme")
    assert (refused > 0) == (quota is not None)
