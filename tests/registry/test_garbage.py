"""Garbage collection: what goes, what stays, and what a concurrent push gets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest

from distsql.app import Registry
from distsql.errors import BlobUnknownError, ManifestReferencesUnknownError, ManifestUnknownError
from distsql.oci.digest import Digest
from distsql.registry.garbage import Collected, GarbageCollector
from distsql.registry.namespace import StoredNamespace
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.registry.reviews import Periods
from distsql.registry.tenants import Tenants
from distsql.registry.verification import Verifier
from distsql.values import Caller
from tests.registry.pushing import CONFIG, image, index, push_blob, push_image

NOW = timedelta(0)


def collector(registry: Registry, grace: timedelta = NOW, restore: timedelta = NOW) -> GarbageCollector:
    periods = Periods(grace, restore)
    return GarbageCollector(registry.backend, Caller(actor="gc"), periods=periods, notify=lambda what, count: None)


async def collect(
    registry: Registry, grace: timedelta = NOW, restore: timedelta = NOW, *, full: bool = False
) -> Collected:
    return await collector(registry, grace, restore).run(full=full)


async def collect_untagged(registry: Registry) -> None:
    await Tenants(registry.backend.everything, Caller()).set("acme", {"untagged": "collect"})


def later(sql: psycopg.Connection[tuple[object, ...]], interval: str) -> None:
    """Everything that collection goes by happened so much earlier."""
    for table, columns in AGES.items():
        for column in columns:
            sql.execute(f"update {table} set {column} = {column} - %s::interval", [interval])


AGES = {
    "garbage_queue": ["queued_at"],
    "layers": ["needed_at"],
    "manifests": ["deleted_at", "pushed_at", "promised_at"],
    "repositories": ["deleted_at"],
    "tenants": ["deleted_at"],
    "kept_references": ["deleted_at"],
    "condemned_bytes": ["condemned_at"],
}


@contextmanager
def killed_before_bytes(registry: Registry) -> Iterator[None]:
    """As if the process were killed before the byte store is touched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GarbageCollector, "_delete_bytes", nothing)
        yield


async def nothing(collector: GarbageCollector) -> None:
    pass


async def stored_keys(registry: Registry) -> set[str]:
    return {stored.key async for stored in registry.backend.store.walk()}


async def damage(registry: Registry) -> list[str]:
    verifier = Verifier(registry.backend, read_bytes=True, grace=NOW, notify=lambda what, count: None)
    return [str(finding) async for finding in verifier.findings()]


async def test_a_tagged_image_stays_whole(registry: Registry, namespace: StoredNamespace) -> None:
    repository = namespace.repository("acme/web")
    manifest = await push_image(repository, b"layer", tags=["v1"])
    assert await collect(registry) == Collected()
    assert (await repository.manifests.get_by_tag("v1")).digest == manifest.digest
    assert await damage(registry) == []


async def test_an_untagged_image_goes_with_its_bytes(registry: Registry, namespace: StoredNamespace) -> None:
    repository = namespace.repository("acme/web")
    manifest = await push_image(repository, b"layer", tags=["v1"])
    await repository.tags.untag("v1")
    assert await collect(registry) == Collected()
    await collect_untagged(registry)
    found = await collect(registry)
    assert found == Collected(manifests=1, purged=1, layers=2, blobs=2, freed_bytes=len(CONFIG) + len(b"layer"))
    with pytest.raises(ManifestUnknownError):
        await repository.manifests.get(manifest.digest)
    with pytest.raises(BlobUnknownError):
        await repository.layers.fetch(Digest.of(b"layer"))
    assert await stored_keys(registry) == set()
    assert await collect(registry) == Collected()


@pytest.mark.parametrize(
    ("tenant", "before", "after", "gone"),
    [
        ("collect", "keep", None, 1),
        ("collect", "keep", "keep", 0),
        ("keep", None, "collect", 1),
        ("keep", "collect", None, 0),
    ],
)
async def test_a_repository_says_otherwise_than_its_tenant_until_it_says_so_no_more(
    registry: Registry, namespace: StoredNamespace, tenant: str, before: str | None, after: str | None, gone: int
) -> None:
    repository = namespace.repository("acme/web")
    await push_image(repository, b"layer", tags=["v1"])
    await Tenants(registry.backend.everything, Caller()).set("acme", {"untagged": tenant})
    administration = RepositoryAdministration(registry.backend.everything, Caller())
    await administration.set("acme/web", {"untagged": before})
    if gone:  # what was kept so far is looked at, and forgotten
        await repository.tags.untag("v1")
        assert await collect(registry) == Collected()
    await administration.set("acme/web", {"untagged": after})
    if not gone:
        await repository.tags.untag("v1")
    assert (await collect(registry)).manifests == gone


async def test_the_grace_period_begins_when_the_last_reference_goes(
    registry: Registry, namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    repository = namespace.repository("acme/web")
    manifest = await push_image(repository, b"layer", tags=["v1"])
    hour = timedelta(hours=1)
    await collect_untagged(registry)
    sql.execute("update manifests set pushed_at = pushed_at - interval '2 days'")
    later(sql, "2 days")
    await repository.tags.untag("v1")
    assert await collect(registry, hour, hour) == Collected()
    await repository.manifests.delete(manifest.digest)
    assert await collect(registry, hour, hour) == Collected()
    later(sql, "2 hours")
    assert (await collect(registry, hour)).blobs == 2


async def test_children_of_a_live_index_stay_and_go_with_it(registry: Registry, namespace: StoredNamespace) -> None:
    repository = namespace.repository("acme/web")
    children = [await push_image(repository, b"layer", n=str(n)) for n in range(2)]
    parent = index(*children)
    await collect_untagged(registry)
    await repository.manifests.put(parent, ["multi"])
    assert await collect(registry) == Collected()
    await repository.tags.untag("multi")
    assert (await collect(registry)).manifests == 3
    assert await stored_keys(registry) == set()


async def test_a_referrer_follows_its_subject(registry: Registry, namespace: StoredNamespace) -> None:
    repository = namespace.repository("acme/web")
    subject = await push_image(repository, b"layer", tags=["v1"])
    referrer = await push_image(repository, b"sbom", subject=subject.digest)
    assert await collect(registry) == Collected()
    await repository.manifests.delete(subject.digest)
    found = await collect(registry)
    assert (found.manifests, found.purged) == (1, 2)
    assert not await repository.manifests.exists(referrer.digest)


async def test_a_blob_of_two_repositories_keeps_its_bytes(registry: Registry, namespace: StoredNamespace) -> None:
    one, two = namespace.repository("acme/one"), namespace.repository("acme/two")
    await push_image(one, b"shared", tags=["v1"])
    await push_image(two, b"shared", tags=["v1"])
    await one.remove()
    assert await collect(registry) == Collected(repositories=1)
    await two.remove()
    assert (await collect(registry)).blobs == 2
    assert await damage(registry) == []


async def test_what_was_deleted_keeps_its_bytes_for_as_long_as_it_can_be_restored(
    registry: Registry, namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Its rows stay marked as long; its blobs leave the repository after the grace, and only their bytes stay."""
    whole, part = namespace.repository("acme/whole"), namespace.repository("acme/part")
    await push_image(whole, b"one", tags=["v1"])
    deleted = await push_image(part, b"two", tags=["v1"])
    before = await stored_keys(registry)
    async with await whole.layers.upload() as upload:
        await upload.write(b"half an upload")
    await whole.remove()
    await part.manifests.delete(deleted.digest)
    assert await collect(registry, restore=timedelta(hours=1)) == Collected(layers=2)
    assert await stored_keys(registry) > before
    found = await collect(registry)
    assert (found.repositories, found.purged, found.uploads) == (1, 1, 1)
    assert await stored_keys(registry) == set()
    assert sql.execute("select path from repositories").fetchall() == [("part",)]
    assert sql.execute("select 1 from manifests").fetchall() == []


async def test_a_deleted_repository_that_somebody_wrote_to_goes_in_the_next_run(
    registry: Registry, namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Who had found the repository before it was deleted comes before the deletion, whenever it commits."""
    repository = namespace.repository("acme/web")
    await push_image(repository, b"layer", tags=["v1"])
    await repository.remove()
    sql.execute("set lock_timeout = '10s'")
    with sql.transaction():
        sql.execute(
            "insert into uploads (tenant_id, repository_id, uuid, algorithm, store_key, actor, expires_at) "
            "select tenant_id, id, gen_random_uuid(), 'sha256', 'late', '', now() + interval '1 day' from repositories"
        )
        collecting = asyncio.create_task(collect(registry))
        await asyncio.sleep(0.2)
    first = (await collecting).repositories
    later(sql, "2 seconds")  # what somebody works with comes again a moment later
    assert first + (await collect(registry)).repositories == 1
    assert sql.execute("select 1 from repositories").fetchall() == []


async def test_expired_uploads_and_orphans_go_with_their_bytes(
    registry: Registry, namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    repository = namespace.repository("acme/web")
    async with await repository.layers.upload() as upload:
        await upload.write(b"half an upload")
    async with await repository.layers.upload() as upload:
        await upload.write(b"an orphan")
    sql.execute("delete from uploads where uuid = %s", [upload.uuid])
    assert (await collect(registry, timedelta(hours=1), full=True)) == Collected()
    sql.execute("update uploads set expires_at = now()")
    found = await collect(registry, full=True)
    assert (found.uploads, found.orphans) == (1, 1)
    assert await stored_keys(registry) == set()


async def test_what_a_killed_run_condemned_is_deleted_by_the_next(
    registry: Registry, namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Also when it was pushed again since: its earlier bytes go, and no others."""
    repository = namespace.repository("acme/web")
    condemned, again = await push_blob(repository, b"content"), await push_blob(repository, b"pushed again")
    with killed_before_bytes(registry):
        found = await collect(registry)
    assert (found.blobs, found.freed_bytes) == (2, 0)
    assert len(await stored_keys(registry)) == 2
    await push_blob(repository, b"pushed again")
    assert len(await stored_keys(registry)) == 3
    found = await collect(registry, timedelta(hours=1))
    assert found == Collected(freed_bytes=len(b"content") + len(b"pushed again"))
    assert sql.execute("select digest, state from blobs").fetchall() == [(again.packed, "live")]
    assert await (await repository.layers.fetch(again)).read() == b"pushed again"
    assert not await repository.layers.exists(condemned)
    assert sql.execute("select 1 from condemned_bytes").fetchall() == []


async def test_content_pushed_again_while_condemned_lives_on_with_new_bytes(
    registry: Registry, namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    repository = namespace.repository("acme/web")
    digest = await push_blob(repository, b"content")
    sql.execute("delete from layers")
    sql.execute("update blobs set state = 'condemned', condemned_at = now()")
    with pytest.raises(BlobUnknownError):
        await repository.layers.fetch(digest)
    await push_blob(repository, b"content")
    await collect(registry, timedelta(hours=1))
    assert await (await repository.layers.fetch(digest)).read() == b"content"


async def test_every_removal_is_in_the_audit(
    registry: Registry, namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    await push_image(namespace.repository("acme/web"), b"layer")
    await collect_untagged(registry)
    await collect(registry)
    rows = sql.execute(
        "select action, repository, count(*) from audit_events where actor = 'gc' group by 1, 2 order by 1"
    ).fetchall()
    assert rows == [("garbage.layer", "acme/web", 2), ("garbage.manifest", "acme/web", 1)]


@pytest.mark.slow
async def test_pushes_beside_collections_lose_nothing_that_was_acknowledged(
    registry: Registry, namespace: StoredNamespace
) -> None:
    """HAZARDS: Quay 4c40e06, GitLab: push, mount and collect the same digests in a tight loop, with no grace at all."""
    stop = asyncio.Event()

    async def keep_collecting() -> None:
        while not stop.is_set():
            await collect(registry)

    async def push(number: int) -> None:
        repository = namespace.repository(f"acme/web{number}")
        for round_ in range(12):
            while True:
                try:
                    await push_image(repository, b"shared by all", tags=["latest"], round=str(round_))
                    break
                except ManifestReferencesUnknownError:
                    continue  # collected between its blobs and its manifest: with no grace, clients push again
            manifest = await repository.manifests.get_by_tag("latest")
            for reference in manifest.references():
                layer = await repository.layers.fetch(reference.digest)
                assert Digest.of(await layer.read()) == reference.digest

    await push_blob(namespace.repository("acme/web"), b"first")
    await collect_untagged(registry)
    collecting = asyncio.create_task(keep_collecting())
    await asyncio.gather(*(push(number) for number in range(4)))
    stop.set()
    await collecting
    assert await damage(registry) == []
    manifest = image(b"shared by all", round="11")
    for number in range(4):
        assert (
            await namespace.repository(f"acme/web{number}").manifests.get_by_tag("latest")
        ).digest == manifest.digest
