"""Undo: what was deleted comes back as it was, also after garbage collection, for as long as it is kept."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from distsql.app import Registry
from distsql.contract import Repository
from distsql.errors import (
    ManifestUnknownError,
    NameUnknownError,
    ReadOnlyError,
    RepositoryExistsError,
    TagImmutableError,
    TagUnknownError,
)
from distsql.oci.digest import Digest
from distsql.registry.garbage import Collected, GarbageCollector
from distsql.registry.namespace import StoredNamespace
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.registry.reviews import Periods
from distsql.registry.verification import Verifier
from distsql.values import Caller
from tests.registry.pushing import CONFIG, image, index, push_blob, push_image
from tests.registry.test_garbage import later

NOW, HOUR = timedelta(0), timedelta(hours=1)
Sql = psycopg.Connection[tuple[object, ...]]


async def collect(registry: Registry, *, restore: timedelta = HOUR, recovery: timedelta = NOW) -> Collected:
    """With no grace at all: what restoring needs has to be kept for its own sake."""
    periods = Periods(NOW, restore, recovery)
    return await GarbageCollector(
        registry.backend, Caller("gc"), periods=periods, notify=lambda what, count: None
    ).run()


async def assert_whole(registry: Registry, repository: Repository, *contents: bytes) -> None:
    """All of the contents can be pulled, and nothing is wrong in catalogue and store."""
    for content in (CONFIG, *contents):
        assert await (await repository.layers.fetch(Digest.of(content))).read() == content
    verifier = Verifier(registry.backend, read_bytes=True, grace=NOW, notify=lambda what, count: None)
    assert [str(each) async for each in verifier.findings()] == []


async def tags_of(repository: Repository) -> list[str]:
    return [tag async for tag in repository.tags.list()]


def forget_what_went_with_it(sql: Sql) -> None:
    """As a version before 0036 leaves it, or one that still serves beside this one."""
    sql.execute(
        "delete from kept_references k using manifests m where k.digest = m.subject_digest and "
        "(m.tenant_id, m.repository_id, m.digest) = (k.tenant_id, k.repository_id, k.manifest_digest)"
    )
    assert sql.execute("update manifests set deleted_tags = null where deleted_at is not null").rowcount > 0


@pytest.mark.parametrize("earlier", [False, True])
async def test_a_deleted_manifest_comes_back_with_its_tags_and_signatures(
    registry: Registry, namespace: StoredNamespace, sql: Sql, earlier: bool
) -> None:
    repository = namespace.repository("acme/web")
    manifest = await push_image(repository, b"layer", tags=["v1", "latest", "moved"], title="first")
    await repository.signatures.put(manifest.digest, b"one", b"two")
    await repository.tags.untag("latest")
    await repository.manifests.delete(manifest.digest)
    other = await push_image(repository, b"other", tags=["moved"])
    await collect(registry)
    assert not await repository.manifests.exists(manifest.digest)
    assert not await repository.layers.exists(Digest.of(b"layer"))
    if earlier:
        forget_what_went_with_it(sql)
    await repository.restorations.restore_manifest(manifest.digest)
    assert (await repository.manifests.get_by_tag("v1")).payload == manifest.payload
    # "latest" had ended before, and "moved" is another's now.
    assert await tags_of(repository) == ["moved", "v1"]
    assert (await repository.tags.get("moved")).digest == other.digest
    assert list(await repository.signatures.get(manifest.digest)) == [b"one", b"two"]
    await collect(registry, restore=NOW)
    await assert_whole(registry, repository, b"layer", b"other")
    with pytest.raises(ManifestUnknownError):
        await repository.restorations.restore_manifest(manifest.digest)


@pytest.mark.parametrize("earlier", [False, True])
async def test_an_index_comes_back_with_its_children_and_its_referrers(
    registry: Registry, namespace: StoredNamespace, sql: Sql, earlier: bool
) -> None:
    """PROTOCOL 5.2: parents, children, then blobs are deleted in one go, and nothing of that is lost."""
    repository = namespace.repository("acme/web")
    child = await push_image(repository, b"layer")
    parent = index(child)
    await repository.manifests.put(parent, ["multi"])
    referrer = await push_image(repository, b"sbom", subject=parent.digest)
    for digest in (parent.digest, child.digest):
        await repository.manifests.delete(digest)
    await repository.layers.delete(Digest.of(b"layer"))
    assert (await collect(registry)).manifests == 1
    assert not await repository.manifests.exists(referrer.digest)
    if earlier:
        forget_what_went_with_it(sql)
    await repository.restorations.restore_manifest(parent.digest)
    assert await tags_of(repository) == ["multi"]
    assert [each.digest async for each in repository.manifests.referrers(parent.digest)] == [referrer.digest]
    await collect(registry, restore=NOW)
    await assert_whole(registry, repository, b"layer", b"sbom")


async def test_a_subject_that_is_another_repository_s_blob_stays_out_of_reach(namespace: StoredNamespace) -> None:
    """What a deleted manifest keeps tells its subject too; restoring gives it only what it needs."""
    secret = await push_blob(namespace.repository("acme/secret"), b"secret")
    web = namespace.repository("acme/web")
    about = await push_image(web, b"layer", subject=secret)
    await web.manifests.delete(about.digest)
    await web.restorations.restore_manifest(about.digest)
    assert await web.manifests.exists(about.digest)
    assert not await web.layers.exists(secret)


async def test_bytes_go_when_nothing_can_be_restored_any_more(
    registry: Registry, namespace: StoredNamespace, sql: Sql
) -> None:
    repository = namespace.repository("acme/web")
    manifest = await push_image(repository, b"layer", tags=["v1"])
    await repository.manifests.delete(manifest.digest)
    assert (await collect(registry)).blobs == 0
    found = await collect(registry, restore=NOW)
    assert (found.purged, found.blobs) == (1, 2)
    with pytest.raises(ManifestUnknownError):
        await repository.restorations.restore_manifest(manifest.digest)
    with pytest.raises(TagUnknownError):
        await repository.restorations.roll_back("v2")
    assert sql.execute("select 1 from kept_references").fetchall() == []
    assert [key async for key in registry.backend.store.walk()] == []


@pytest.mark.parametrize("restorable", [True, False])
async def test_the_period_is_the_one_that_is_told(namespace: StoredNamespace, sql: Sql, restorable: bool) -> None:
    """Seven days from the deletion, whether anything was collected since or not."""
    web, gone = namespace.repository("acme/web"), namespace.repository("acme/gone")
    manifest = await push_image(web, b"layer", tags=["v1"])
    await web.manifests.delete(manifest.digest)
    await push_image(gone, b"layer", tags=["v1"])
    await gone.remove()
    later(sql, "6 days 23:59:00" if restorable else "7 days 00:01:00")
    told = [*await web.restorations.deleted(), *await gone.restorations.deleted()]
    assert [each.kind for each in told if each.kind != "tag"] == (["manifest", "repository"] if restorable else [])
    assert all(each.restorable_until > datetime.now(UTC) for each in told)
    for restore, unknown in (
        (web.restorations.restore_manifest(manifest.digest), ManifestUnknownError),
        (gone.restorations.restore_repository(), NameUnknownError),
    ):
        with nullcontext() if restorable else pytest.raises(unknown):
            await restore
    assert await web.manifests.exists(manifest.digest) is restorable
    assert await gone.exists() is restorable


async def test_pushed_again_it_is_not_to_be_restored(registry: Registry, namespace: StoredNamespace) -> None:
    repository = namespace.repository("acme/web")
    manifest = await push_image(repository, b"layer", tags=["v1"])
    await repository.manifests.delete(manifest.digest)
    await push_image(repository, b"layer", tags=["v1"])
    with pytest.raises(ManifestUnknownError):
        await repository.restorations.restore_manifest(manifest.digest)
    await collect(registry, restore=NOW)
    await assert_whole(registry, repository, b"layer")


async def test_a_repository_comes_back_with_everything(
    registry: Registry, namespace: StoredNamespace, sql: Sql
) -> None:
    repository = namespace.repository("acme/web")
    manifest = await push_image(repository, b"layer", tags=["v1", "v2"])
    await push_blob(repository, b"of nothing")
    use = "select sum(repositories), sum(manifests), sum(tags), sum(stored_bytes) from tenant_usage"
    before = sql.execute(use).fetchall()
    await repository.remove()
    assert (await collect(registry)).repositories == 0
    assert not await repository.exists()
    await repository.restorations.restore_repository()
    assert await tags_of(repository) == ["v1", "v2"]
    assert (await repository.manifests.get_by_tag("v1")).digest == manifest.digest
    await assert_whole(registry, repository, b"layer")
    assert sql.execute(use).fetchall() != []
    assert sql.execute(use).fetchall()[0][:3] == before[0][:3]
    await collect(registry, restore=NOW)
    await assert_whole(registry, repository, b"layer")
    with pytest.raises(RepositoryExistsError):
        await repository.restorations.restore_repository()
    with pytest.raises(NameUnknownError):
        await namespace.repository("acme/never").restorations.restore_repository()


async def test_what_waited_to_be_collected_waits_again_in_a_repository_that_comes_back(
    registry: Registry, namespace: StoredNamespace
) -> None:
    """While the repository is away, collection has looked at its untagged manifests and forgotten them."""
    repository = namespace.repository("acme/web")
    manifest = await push_image(repository, b"layer", tags=["v1"])
    await RepositoryAdministration(registry.backend.everything, Caller()).set("acme/web", {"untagged": "collect"})
    await collect(registry)
    await repository.tags.untag("v1")
    await repository.remove()
    assert await collect(registry) == Collected()
    await repository.restorations.restore_repository()
    assert await repository.manifests.exists(manifest.digest)
    assert (await collect(registry, restore=NOW)).manifests == 1
    assert not await repository.manifests.exists(manifest.digest)


async def test_of_two_of_a_name_the_last_one_comes_back(registry: Registry, namespace: StoredNamespace) -> None:
    repository = namespace.repository("acme/web")
    for content in (b"first", b"second"):
        await push_image(repository, content, tags=["v1"])
        await repository.remove()
    await push_image(repository, b"third", tags=["v1"])
    with pytest.raises(RepositoryExistsError):
        await repository.restorations.restore_repository()
    await repository.remove()
    await repository.restorations.restore_repository()
    await assert_whole(registry, repository, b"third")


async def test_a_repository_whose_rows_are_being_taken_out_stays_gone(
    registry: Registry, namespace: StoredNamespace, sql: Sql
) -> None:
    repository = namespace.repository("acme/web")
    await push_image(repository, b"layer", tags=["v1"])
    await repository.remove()
    sql.execute("update repositories set purged_at = now()")
    with pytest.raises(NameUnknownError):
        await repository.restorations.restore_repository()


async def test_a_tag_goes_back_and_comes_back(registry: Registry, namespace: StoredNamespace) -> None:
    repository = namespace.repository("acme/web")
    first = await push_image(repository, b"first", tags=["prod"])
    between = datetime.now(UTC)
    second = await push_image(repository, b"second", tags=["prod"])
    third = await push_image(repository, b"third", tags=["prod"])
    assert await repository.restorations.roll_back("prod") == second.digest
    assert await repository.restorations.roll_back("prod", at=between) == first.digest
    assert (await repository.tags.get("prod")).digest == first.digest
    await repository.tags.untag("prod")
    assert await repository.restorations.roll_back("prod") == first.digest
    assert (await repository.tags.get("prod")).digest == first.digest
    assert [move.digest async for move in repository.tags.history("prod")][-3:] == [
        third.digest,
        second.digest,
        first.digest,
    ]
    with pytest.raises(TagUnknownError):
        await repository.restorations.roll_back("prod", at=between - timedelta(days=1))
    with pytest.raises(TagUnknownError):
        await repository.restorations.roll_back("nothing")


async def test_a_tag_goes_back_to_what_was_deleted(registry: Registry, namespace: StoredNamespace) -> None:
    """Also where untagged manifests are collected: what a tag left stays as long, and longer as a deleted one."""
    await push_blob(namespace.repository("acme/web"), b"first of all")
    await RepositoryAdministration(registry.backend.everything, Caller()).set("acme/web", {"untagged": "collect"})
    repository = namespace.repository("acme/web")
    first = await push_image(repository, b"first", tags=["prod"])
    await push_image(repository, b"second", tags=["prod"])
    assert (await collect(registry)).manifests == 0
    assert await repository.manifests.exists(first.digest)
    await repository.manifests.delete(first.digest)
    await collect(registry)
    assert await repository.restorations.roll_back("prod") == first.digest
    await assert_whole(registry, repository, b"first")


async def test_restoring_obeys_switches_and_immutable_tags(registry: Registry, namespace: StoredNamespace) -> None:
    repository = namespace.repository("acme/web")
    manifest = await push_image(repository, b"first", tags=["v1"])
    await push_image(repository, b"second", tags=["v1"])
    await repository.manifests.delete(manifest.digest)
    administration = RepositoryAdministration(registry.backend.everything, Caller())
    await administration.set("acme/web", {"read_only": True})
    with pytest.raises(ReadOnlyError):
        await repository.restorations.restore_manifest(manifest.digest)
    with pytest.raises(ReadOnlyError):
        await repository.restorations.roll_back("v1")
    await administration.set("acme/web", {"read_only": False, "immutable_tags": ["v*"]})
    with pytest.raises(TagImmutableError):
        await repository.restorations.roll_back("v1")


async def test_every_restoration_is_in_the_audit(registry: Registry, namespace: StoredNamespace, sql: Sql) -> None:
    repository = namespace.repository("acme/web")
    manifest = await push_image(repository, b"layer", tags=["v1"])
    await repository.manifests.delete(manifest.digest)
    await repository.restorations.restore_manifest(manifest.digest)
    await repository.remove()
    await repository.restorations.restore_repository()
    assert sql.execute(
        "select action, repository, reference, actor from audit_events where action like '%.restore' order by at"
    ).fetchall() == [
        ("manifest.restore", "acme/web", None, "tester"),
        ("tag.restore", "acme/web", "v1", "tester"),
        ("repository.restore", "acme/web", None, "tester"),
    ]


async def test_bytes_stay_for_the_recovery_window(registry: Registry, namespace: StoredNamespace, sql: Sql) -> None:
    """A database that is restored to any point in it finds all bytes that it names."""
    repository = namespace.repository("acme/web")
    digest = await push_blob(repository, b"content")
    then = sql.execute("select store_key, length from blobs").fetchall()
    await collect(registry, recovery=HOUR)
    assert not await repository.layers.exists(digest)
    await push_blob(repository, b"content")
    await collect(registry, recovery=HOUR)
    for key, length in then:
        assert await registry.backend.store.length(str(key)) == length
    sql.execute("update condemned_bytes set condemned_at = condemned_at - interval '2 hours'")
    await collect(registry, recovery=HOUR)
    assert await registry.backend.store.length(str(then[0][0])) is None


async def test_a_head_is_a_promise_for_the_grace(registry: Registry, namespace: StoredNamespace, sql: Sql) -> None:
    """Whoever asks before it pushes finds the content there when its manifest comes; few such questions write."""
    repository = namespace.repository("acme/web")
    for content in (CONFIG, b"layer"):
        await push_blob(repository, content)
    needed = "select needed_at from layers order by digest"
    fresh = sql.execute(needed).fetchall()
    assert await repository.layers.exists(Digest.of(b"layer"))
    assert sql.execute(needed).fetchall() == fresh
    for table, column in (("layers", "needed_at"), ("garbage_queue", "queued_at")):
        sql.execute(f"update {table} set {column} = {column} - interval '59 minutes'")
    for content in (CONFIG, b"layer"):
        assert await repository.layers.exists(Digest.of(content))
    for table, column in (("layers", "needed_at"), ("garbage_queue", "queued_at")):
        sql.execute(f"update {table} set {column} = {column} - interval '2 minutes'")
    collector = GarbageCollector(registry.backend, Caller(), periods=Periods(HOUR), notify=lambda what, count: None)
    assert await collector.run() == Collected()
    await repository.manifests.put(image(b"layer"), ["v1"])
    for table, column in (("layers", "needed_at"), ("garbage_queue", "queued_at")):
        sql.execute(f"update {table} set {column} = {column} - interval '2 hours'")
    old = sql.execute(needed).fetchall()
    assert await repository.layers.exists(Digest.of(b"layer"))
    assert sql.execute(needed).fetchall() == old  # a manifest needs it: no promise is wanted
    assert (await collector.run()).layers == 0
