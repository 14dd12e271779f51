"""A dry run of garbage collection says what a run does."""

from __future__ import annotations

import random
from datetime import timedelta

import psycopg
import pytest

from distsql.app import Registry
from distsql.registry import forecasts, manifest_reviews
from distsql.registry.garbage import GarbageCollector
from distsql.registry.namespace import StoredNamespace
from distsql.registry.reviews import Periods
from distsql.registry.tenants import Tenants
from distsql.values import Caller
from tests.registry.pushing import index, push_blob, push_image
from tests.registry.test_garbage import NOW, collect, collect_untagged, collector, later, stored_keys
from tests.registry.test_retention_runs import fill

Owner = psycopg.Connection[tuple[object, ...]]


async def test_a_dry_run_says_what_a_run_does_and_changes_nothing(
    registry: Registry, namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    hour = timedelta(hours=1)
    repository, other = namespace.repository("acme/web"), namespace.repository("acme/other")
    child = await push_image(repository, b"layer", n="child")
    await collect_untagged(registry)
    await repository.manifests.put(index(child))
    subject = await push_image(repository, b"shared", tags=["v1"])
    await push_image(repository, b"sbom", subject=subject.digest)
    await push_blob(repository, b"of nothing")
    await push_image(other, b"shared", tags=["v1"])
    await push_image(namespace.repository("acme/gone"), b"gone", tags=["v1"])
    await repository.manifests.delete(subject.digest)
    await namespace.repository("acme/gone").remove()
    async with await repository.layers.upload() as upload:
        await upload.write(b"half an upload")
    sql.execute("update uploads set expires_at = now()")
    later(sql, "2 hours")
    before = await stored_keys(registry)
    foreseen = await collector(registry, hour, hour).dry_run()
    assert await stored_keys(registry) == before
    assert await repository.manifests.exists(child.digest)
    assert foreseen == await collect(registry, hour, hour)
    assert (foreseen.manifests, foreseen.purged, foreseen.repositories, foreseen.uploads) == (2, 1, 1, 1)
    # What the referrer and the index need is kept for them; "shared" is in another repository.
    assert foreseen.blobs == 2


async def test_a_dry_run_knows_of_promises(
    registry: Registry, namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """What somebody was told is there stays, and the other referrers of a deleted subject with one of them."""
    hour = timedelta(hours=1)
    repository = namespace.repository("acme/web")
    await push_image(repository, b"first", tags=["v1"])
    await collect_untagged(registry)
    promised = await push_image(repository, b"promised", n="1")
    await push_image(repository, b"untagged", n="2")
    subjects = [await push_image(repository, b"subject", tags=[f"s{n}"], n=str(n)) for n in range(2)]
    referrers = [
        [await push_image(repository, b"%d" % n, subject=s.digest, n=str(n)) for n in range(2)] for s in subjects
    ]
    sql.execute("delete from garbage_queue where digest = any(%s)", [[r.digest.packed for of in referrers for r in of]])
    for subject in subjects:
        await repository.manifests.delete(subject.digest)
    later(sql, "2 hours")
    for digest in (promised.digest, referrers[0][0].digest):
        assert await repository.manifests.exists(digest)
    foreseen = await collector(registry, hour, timedelta(days=1)).dry_run()
    assert foreseen == await collect(registry, hour, timedelta(days=1))
    assert foreseen.manifests == 3
    for digest in (promised.digest, *(each.digest for each in referrers[0])):
        assert await repository.manifests.exists(digest)
    later(sql, "2 hours")
    foreseen = await collector(registry, hour, timedelta(days=1)).dry_run()
    assert foreseen == await collect(registry, hour, timedelta(days=1))
    assert foreseen.manifests == 3


async def test_a_dry_run_takes_a_tenant_when_nothing_of_it_is_left(
    registry: Registry, namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    hour = timedelta(hours=1)
    await push_image(namespace.repository("acme/web"), b"layer", tags=["v1"])
    gone = namespace.repository("acme/gone")
    await gone.manifests.delete((await push_image(gone, b"gone", tags=["v1"])).digest)
    await push_blob(gone, b"of nothing")
    await gone.remove()
    await Tenants(registry.backend.everything, Caller()).delete("acme")
    found: list[tuple[int, int]] = []
    for _ in range(3):
        later(sql, "2 hours")
        foreseen = await collector(registry, hour, hour).dry_run()
        assert foreseen == await collect(registry, hour, hour)
        found.append((foreseen.tenants, foreseen.repositories))
    assert found == [(0, 1), (1, 1), (0, 0)]
    assert await stored_keys(registry) == set()


@pytest.mark.parametrize("recovery", [NOW, timedelta(hours=1)])
async def test_a_dry_run_takes_a_tenant_at_once_where_nothing_can_be_restored(
    registry: Registry, namespace: StoredNamespace, recovery: timedelta
) -> None:
    await push_image(namespace.repository("acme/web"), b"layer", tags=["v1"])
    await Tenants(registry.backend.everything, Caller()).delete("acme")
    at_once = GarbageCollector(
        registry.backend, Caller(), periods=Periods(NOW, NOW, recovery), notify=lambda what, count: None
    )
    foreseen = await at_once.dry_run()
    assert foreseen == await at_once.run()
    assert (foreseen.tenants, foreseen.repositories, foreseen.blobs) == (int(not recovery), 1, 2)


HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


async def make(namespace: StoredNamespace, dice: random.Random, sql: Owner) -> None:
    """Content that is tied together, of which some was deleted or lost its tags; all of it at various times."""
    repositories = [namespace.repository(f"acme/{name}") for name in ("web", "api", "gone")]
    for repository in repositories:
        await fill(repository, dice, sql)
        later(sql, f"{dice.randint(0, 90)} minutes")
    for repository in repositories:
        for _ in range(2):
            digests = [manifest.digest async for manifest in repository.manifests.all()]
            for digest in dice.sample(digests, min(2, len(digests))):
                await repository.manifests.delete(digest, force=True)
            for tag in [tag async for tag in repository.tags.list()][:1]:
                await repository.tags.untag(tag)
            await repository.manifests.exists(dice.choice(digests))
            later(sql, f"{dice.randint(0, 90)} minutes")
    await repositories[-1].remove()
    later(sql, f"{dice.randint(0, 90)} minutes")


@pytest.mark.parametrize("grace", [NOW, HOUR])
@pytest.mark.parametrize("restore", [NOW, HOUR, DAY])
async def test_a_dry_run_foresees_every_round_of_a_run(
    registry: Registry, namespace: StoredNamespace, sql: Owner, grace: timedelta, restore: timedelta
) -> None:
    """Also what becomes garbage only since the run removes something; of several runs."""
    dice = random.Random(f"{grace} {restore}")
    await push_image(namespace.repository("acme/web"), b"first", tags=["first"])
    if dice.random() < 0.5:  # else the run finds that it is to collect them from now on
        await collect_untagged(registry)
    await make(namespace, dice, sql)
    await collect_untagged(registry)
    gone = 0
    for _ in range(4):
        foreseen = await collector(registry, grace, restore).dry_run()
        assert foreseen == await collect(registry, grace, restore)
        gone += foreseen.manifests + foreseen.layers
        later(sql, "45 minutes")
    assert gone


async def test_followers_in_more_than_one_batch(
    registry: Registry, namespace: StoredNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Referrers of one manifest, and of those others; and children of one index."""
    for module in (manifest_reviews, forecasts):
        monkeypatch.setattr(module, "MOST_MANIFESTS", 2)
    web = namespace.repository("acme/web")
    subject = await push_image(web, b"layer", tags=["v1"])
    await collect_untagged(registry)
    referrers = [await push_image(web, b"sbom", subject=subject.digest, n=str(n)) for n in range(5)]
    for referrer in referrers[:3]:
        await push_image(web, b"signature", subject=referrer.digest, of=str(referrer.digest))
    children = [await push_image(web, b"layer", child=str(n)) for n in range(5)]
    await web.manifests.put(index(*children), ["multi"])
    await web.manifests.delete(subject.digest)
    await web.tags.untag("multi")
    foreseen = await collector(registry).dry_run()
    assert foreseen == await collect(registry)
    assert (foreseen.manifests, foreseen.purged) == (5 + 3 + 1 + 5, 5 + 3 + 1 + 5 + 1)
    assert await stored_keys(registry) == set()
