"""Between the transactions of a round: what comes to be held stays, and a killed round is gone on with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import pytest

from distsql.errors import ManifestUnknownError
from distsql.oci.manifest import ParsedManifest
from distsql.registry import manifest_reviews
from distsql.registry.context import Backend
from distsql.registry.garbage import Collected, GarbageCollector
from distsql.registry.repositories import StoredRepository
from distsql.registry.reviews import Periods
from distsql.sql import garbage_manifests
from distsql.sql.content_events import RepositoryNames
from distsql.sql.garbage_manifests import LockedManifestRow
from distsql.sql.manifest_deletions import ManifestKeyRow
from distsql.sql.transactions import Transaction
from distsql.values import Caller
from tests.registry.killing import Killed, kill_at, live
from tests.registry.pushing import image, index, push_blob, push_image
from tests.registry.soundness import findings

NOW = timedelta(0)
DAY = timedelta(days=1)
Change = Callable[[StoredRepository, ParsedManifest], Awaitable[object]]


async def collect(backend: Backend, *, restore: timedelta = NOW) -> Collected:
    return await GarbageCollector(
        backend, Caller("gc"), periods=Periods(NOW, restore), notify=lambda what, count: None
    ).run()


# -- somebody comes between looking and deleting ----------------------------------------------------------------------


def between(monkeypatch: pytest.MonkeyPatch, change: Callable[[], Awaitable[object]]) -> None:
    """Runs the change when the manifests were looked at, and are about to be locked."""
    lock = garbage_manifests.lock_candidates
    waiting = [change]

    async def changed_first(tx: Transaction, keys: Sequence[ManifestKeyRow]) -> list[LockedManifestRow]:
        if waiting:
            await waiting.pop()()
        return await lock(tx, keys)

    monkeypatch.setattr(garbage_manifests, "lock_candidates", changed_first)


async def tag(repository: StoredRepository, manifest: ParsedManifest) -> None:
    await repository.tags.tag("held", manifest.digest)


async def tag_and_untag(repository: StoredRepository, manifest: ParsedManifest) -> None:
    """The tag can go back for as long as anything can be restored."""
    await repository.tags.tag("held", manifest.digest)
    await repository.tags.untag("held")


async def push_parent(repository: StoredRepository, manifest: ParsedManifest) -> None:
    await repository.manifests.put(index(manifest), ["multi"])


async def push_subject(repository: StoredRepository, manifest: ParsedManifest) -> None:
    del manifest
    await repository.manifests.put(image(b"stays", late="subject"), ["subject"])


@pytest.mark.parametrize("change", [tag, tag_and_untag, push_parent, push_subject])
async def test_what_comes_to_be_held_while_it_is_looked_at_stays(
    backend: Backend, web: StoredRepository, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    manifest = await push_image(web, b"layer", subject=image(b"stays", late="subject").digest)
    between(monkeypatch, lambda: change(web, manifest))
    assert (await collect(backend, restore=DAY)).manifests == 0
    assert await web.manifests.exists(manifest.digest)
    assert (await collect(backend, restore=DAY)).manifests == 0
    assert await findings(backend) == []


async def test_each_is_judged_by_itself(
    backend: Backend, web: StoredRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many that are locked at once, one for each way in which it may be held, and others that nothing holds."""
    subject = image(b"stays", late="subject")
    held = [await push_image(web, b"layer", subject=subject.digest, n="referrer")]
    held += [await push_image(web, b"layer", n=str(n)) for n in range(3)]
    gone = [await push_image(web, b"layer", n=f"gone {n}") for n in range(3)]

    async def hold() -> None:
        await push_subject(web, held[0])
        for change, manifest in zip((tag, tag_and_untag, push_parent), held[1:], strict=True):
            await change(web, manifest)

    between(monkeypatch, hold)
    assert (await collect(backend, restore=DAY)).manifests == len(gone)
    assert [await web.manifests.exists(each.digest) for each in held] == [True] * len(held)
    assert [await web.manifests.exists(each.digest) for each in gone] == [False] * len(gone)


async def test_a_referrer_whose_subject_comes_back_while_it_is_looked_at_stays(
    backend: Backend, web: StoredRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = await push_image(web, b"subject", tags=["v2"])
    referrer = await push_image(web, b"sbom", subject=subject.digest)
    await web.manifests.delete(subject.digest)
    between(monkeypatch, lambda: web.restorations.restore_manifest(subject.digest))
    assert (await collect(backend, restore=DAY)).manifests == 0
    assert await web.manifests.exists(referrer.digest)


async def test_what_was_looked_at_too_long_ago_is_looked_at_again(
    backend: Backend, web: StoredRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the grace of what it needs would have begun long before nothing needed it."""
    manifest = await push_image(web, b"layer", n="untagged")
    clock = iter([0.0, 60.0])

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return next(clock, 100.0)

    monkeypatch.setattr(manifest_reviews, "time", Clock)
    released: list[object] = []
    release = manifest_reviews._release

    async def counted(keys: Sequence[ManifestKeyRow], tx: Transaction) -> RepositoryNames:
        released.append(keys)
        return await release(keys, tx)

    monkeypatch.setattr(manifest_reviews, "_release", counted)
    assert (await collect(backend)).manifests == 1
    assert len(released) == 2
    assert not await web.manifests.exists(manifest.digest)


# -- a round is killed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("went_on", [True, False], ids=["went on", "killed"])
async def test_signatures_of_what_is_deleted_are_seen_by_nobody_and_restored(
    backend: Backend, web: StoredRepository, *, went_on: bool
) -> None:
    manifest = await push_image(web, b"layer", n="signed")
    await web.signatures.put(manifest.digest, b"one", b"two")
    kill_at(backend, "lock_deleted")
    with pytest.raises(Killed):
        await collect(backend, restore=DAY)
    live(backend)
    with pytest.raises(ManifestUnknownError):
        await web.manifests.get(manifest.digest)
    assert await web.signatures.get(manifest.digest) == []
    if went_on:
        assert (await collect(backend, restore=DAY)).manifests == 0
        await push_image(web, b"layer", n="signed")
        assert await web.signatures.get(manifest.digest) == [], "pushed again it is unsigned"
        await web.signatures.put(manifest.digest, b"one", b"two")
        assert (await collect(backend, restore=DAY)).manifests == 1
    await web.restorations.restore_manifest(manifest.digest)
    assert await web.signatures.get(manifest.digest) == [b"one", b"two"]


@pytest.mark.parametrize(
    "statement", ["release_layers_of_many", "lock_candidates", "mark_manifests_deleted", "lock_deleted", "release_kept"]
)
async def test_a_round_that_was_killed_is_ended_by_the_next(
    backend: Backend, web: StoredRepository, statement: str
) -> None:
    child = await push_image(web, b"child", n="child")
    await web.manifests.put(index(child))
    await push_image(web, b"sbom", subject=child.digest)
    kill_at(backend, statement)
    with pytest.raises(Killed):
        await collect(backend)
    live(backend)
    await push_blob(web, b"child")
    await collect(backend)
    assert [each.digest async for each in web.manifests.all()] == [(await web.manifests.get_by_tag("v1")).digest]
    assert await findings(backend) == []
    assert len([each async for each in backend.store.walk()]) == 2
