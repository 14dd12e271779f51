"""A retention run that is killed between its transactions, kept waiting, or overtaken by who tags and signs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import pytest

from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest
from distsql.registry import retention as running
from distsql.registry.context import Backend
from distsql.registry.garbage import GarbageCollector
from distsql.registry.repositories import StoredRepository
from distsql.registry.retention import Retention
from distsql.registry.retention_rules import own_policy
from distsql.registry.reviews import Periods
from distsql.sql import mass_deletions
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from distsql.values import Caller
from tests.registry.killing import Killed, kill_at, live
from tests.registry.pushing import push_image
from tests.registry.recounts import use_of
from tests.registry.soundness import findings, namespace_of

DAY = timedelta(days=1)
Change = Callable[[StoredRepository, ParsedManifest], Awaitable[object]]


async def make(backend: Backend) -> tuple[StoredRepository, ParsedManifest]:
    """A repository that keeps what is signed and its latest tag; and an image without any."""
    web = namespace_of(backend).repository("acme/web")
    for number in range(2):
        await push_image(web, b"tagged", tags=[f"v{number}"], n=str(number))
    await Retention(backend, Caller()).set("acme", own_policy(["latest 1", "any: signed"], ["all", "untagged: all"]))
    return web, await push_image(web, b"untagged", n="untagged")


async def run(backend: Backend) -> int:
    """How many went."""
    return sum([len(each.deleted) async for each in Retention(backend, Caller()).run("acme/web")])


@pytest.mark.parametrize(
    "statement", ["release_layers_of_many", "lock_manifests", "end_tags", "mark_manifests_deleted", "lock_deleted"]
)
async def test_a_run_that_was_killed_is_ended_by_the_next(backend: Backend, statement: str) -> None:
    web, untagged = await make(backend)
    before = await use_of(backend, "acme")

    kill_at(backend, statement)
    with pytest.raises(Killed):
        await run(backend)
    live(backend)
    killed_behind = statement == "lock_deleted"
    assert await web.manifests.exists(untagged.digest) != killed_behind, "all or nothing"
    # A second run finds what the tag of the first has left.
    assert await run(backend) == (1 if killed_behind else 2)
    after = await use_of(backend, "acme")
    assert (before.tags - after.tags, before.manifests - after.manifests) == (1, 2 if killed_behind else 1)
    collector = GarbageCollector(
        backend, Caller("gc"), periods=Periods(timedelta(0), DAY), notify=lambda what, count: None
    )
    await collector.run()
    assert await findings(backend) == []
    await web.restorations.restore_manifest(untagged.digest)
    assert await web.manifests.exists(untagged.digest)


async def tag(web: StoredRepository, manifest: ParsedManifest) -> None:
    await web.tags.tag("v9", manifest.digest)


async def sign(web: StoredRepository, manifest: ParsedManifest) -> None:
    await web.signatures.put(manifest.digest, b"signature")


@pytest.mark.parametrize("change", [tag, sign])
async def test_what_somebody_does_before_the_locks_counts(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    """It is decided again once nobody can change it any more, beside the transaction that holds the locks."""
    web, untagged = await make(backend)
    lock = mass_deletions.lock_content

    async def changed_first(
        tx: Transaction, repository: RepositoryRow, *, names: Sequence[str], digests: Sequence[Digest]
    ) -> tuple[set[str], dict[Digest, str]]:
        await change(web, untagged)
        return await lock(tx, repository, names=names, digests=digests)

    monkeypatch.setattr(mass_deletions, "lock_content", changed_first)
    assert await run(backend) == 1
    assert await web.manifests.exists(untagged.digest)


async def test_who_was_kept_waiting_begins_anew(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    web, untagged = await make(backend)
    clock = iter([0.0, 60.0])

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return next(clock, 100.0)

    monkeypatch.setattr(running, "time", Clock)
    assert await run(backend) == 2
    assert not await web.manifests.exists(untagged.digest)
    assert next(clock, None) is None
