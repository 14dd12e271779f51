"""Pushes to one repository that share a transaction: each is as if it had been alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import pytest

from distsql.errors import (
    CatalogueUnavailableError,
    CreationRefusedError,
    ManifestReferencesUnknownError,
    QuotaExceededError,
    ReadOnlyError,
    TagImmutableError,
)
from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest, parse
from distsql.registry.context import Backend
from distsql.registry.namespace import StoredNamespace
from distsql.registry.pushes import Push
from distsql.registry.repositories import StoredRepository
from distsql.registry.tenants import Tenants
from distsql.sql.transactions import Transaction
from distsql.values import Caller
from tests.registry.pushing import CONFIG, image, index, push_blob, push_image
from tests.registry.soundness import findings, namespace_of, opened
from tests.sql.rows import look

BARE = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"n":"%d"}}'
)


@pytest.fixture
async def groups(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many went together, of each transaction that was begun."""
    found: list[int] = []
    write = backend.pushes.write

    async def counted(place: object, push: Push, together: object, **more: object) -> bool:
        async def counting(pushes: Sequence[Push]) -> Sequence[bool]:
            found.append(len(pushes))
            return await together(pushes)  # type: ignore[operator, no-any-return]

        return await write(place, push, counting, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(backend.pushes, "write", counted)
    return found


@pytest.fixture
async def web(backend: Backend) -> StoredRepository:
    repository = namespace_of(backend).repository("acme/web")
    await push_blob(repository, CONFIG)
    await push_blob(repository, b"layer")
    return repository


def as_caller(backend: Backend, actor: str, name: str = "acme/web") -> StoredRepository:
    return StoredNamespace(backend, Caller(actor=actor, request_id=f"of {actor}")).repository(name)


async def rows(backend: Backend, sql: str) -> list[tuple[object, ...]]:
    async def read(tx: Transaction) -> list[tuple[object, ...]]:
        return await look(tx, sql)

    return await backend.everything.transact(read)


async def usage(backend: Backend) -> tuple[object, ...]:
    [found] = await rows(
        backend, "select sum(manifests)::int, sum(tags)::int from tenant_usage where manifests + tags > 0"
    )
    return found


async def test_each_has_its_tags_its_audit_and_its_count(
    backend: Backend, web: StoredRepository, groups: list[int]
) -> None:
    made = [image(b"layer", n=str(number)) for number in range(6)]
    digests = await asyncio.gather(
        *(
            as_caller(backend, f"ann{number}").manifests.put(manifest, [f"v{number}", f"w{number}"])
            for number, manifest in enumerate(made)
        )
    )
    assert groups == [6]
    assert digests == [manifest.digest for manifest in made]
    for number, manifest in enumerate(made):
        for tag in (f"v{number}", f"w{number}"):
            assert (await web.manifests.get_by_tag(tag)).digest == manifest.digest
        found = await web.manifests.get(manifest.digest)
        assert found.annotations == {"n": str(number)}
        [move] = [move async for move in web.tags.history(f"v{number}")]
        assert move.actor == f"ann{number}"
    assert await usage(backend) == (6, 12)
    events = await rows(
        backend,
        "select actor, reference, digest, request_id from audit_events where action = 'manifest.put' order by 1, 2",
    )
    assert events == [
        (f"ann{number}", tag, manifest.digest.packed, f"of ann{number}")
        for number, manifest in enumerate(made)
        for tag in (f"v{number}", f"w{number}")
    ]
    pushers = await rows(backend, "select pushed_by from manifests order by 1")
    assert pushers == [(f"ann{number}",) for number in range(6)]
    assert await findings(backend) == []


async def test_pushes_of_one_tag_are_all_in_its_history(
    backend: Backend, web: StoredRepository, groups: list[int]
) -> None:
    await web.manifests.put(image(b"layer", n="before"), ["latest"])
    made = [image(b"layer", n=str(number)) for number in range(5)]
    await asyncio.gather(
        *(as_caller(backend, f"ann{number}").manifests.put(each, ["latest"]) for number, each in enumerate(made))
    )
    assert groups == [1, 5]
    moves = [move async for move in web.tags.history("latest")]
    assert [move.digest for move in moves[:-1]] == [each.digest for each in reversed(made)]
    assert [move.actor for move in moves[:-1]] == [f"ann{number}" for number in reversed(range(5))]
    for later, earlier in pairwise(moves):
        assert earlier.valid_from < later.valid_from == earlier.valid_to
        assert earlier.ended_by == later.actor
    assert await usage(backend) == (6, 1)
    assert await findings(backend) == []


async def test_what_a_tag_left_behind_in_a_group_is_queued(backend: Backend, web: StoredRepository) -> None:
    await Tenants(backend.everything, Caller()).set("acme", {"untagged": "collect"})
    made = [image(b"layer", n=str(number)) for number in range(4)]
    await asyncio.gather(*(web.manifests.put(each, ["latest"]) for each in made[:3]), web.manifests.put(made[3]))
    queued = await rows(backend, "select digest from garbage_queue where kind = 'manifest'")
    assert {digest for (digest,) in queued} == {made[0].digest.packed, made[1].digest.packed, made[3].digest.packed}


async def test_the_same_manifest_at_the_same_time(backend: Backend, web: StoredRepository, groups: list[int]) -> None:
    manifest = image(b"layer")
    await asyncio.gather(*(web.manifests.put(manifest, [tag] if tag else []) for tag in ("a", "b", "", "c")))
    assert groups == [1, 1, 1, 1]
    assert [tag async for tag in web.tags.list()] == ["a", "b", "c"]
    assert await usage(backend) == (1, 3)


async def test_of_every_kind_at_once(backend: Backend, web: StoredRepository, groups: list[int]) -> None:
    child = await push_image(web, b"layer", n="child")
    groups.clear()
    bare = [parse(BARE % number) for number in range(2)]
    made: list[tuple[ParsedManifest, list[str]]] = [
        (image(b"layer", n="new"), ["new"]),
        (image(b"layer", n="nameless"), []),
        (image(b"layer", subject=child.digest, artifact_type="application/vnd.cncf.notary.signature"), []),
        (child, ["again"]),
        (index(child), ["several"]),
        (bare[0], ["bare"]),
        (bare[1], []),
        (image(b"layer", n="cosign"), [f"sha256-{child.digest.encoded}.sig"]),
    ]
    await asyncio.gather(*(web.manifests.put(manifest, tags) for manifest, tags in made))
    assert groups == [8]
    for manifest, tags in made:
        assert (await web.manifests.get(manifest.digest)).payload == manifest.payload
        for tag in tags:
            assert (await web.manifests.get_by_tag(tag)).digest == manifest.digest
    relations = await rows(backend, "select kind from signing_manifests order by 1")
    assert relations == [("cosign",), ("referrer",)]
    assert await usage(backend) == (8, 5)
    assert await findings(backend) == []


async def test_what_one_lacks_is_told_to_it_alone(backend: Backend, web: StoredRepository) -> None:
    good = [image(b"layer", n=str(number)) for number in range(3)]
    lacking = image(b"nobody pushed it")
    results = await asyncio.gather(
        *(web.manifests.put(each, [f"v{number}"]) for number, each in enumerate(good)),
        web.manifests.put(lacking, ["bad"]),
        return_exceptions=True,
    )
    assert results[:3] == [each.digest for each in good]
    assert isinstance(results[3], ManifestReferencesUnknownError)
    assert [tag async for tag in web.tags.list()] == ["v0", "v1", "v2"]
    assert await usage(backend) == (3, 3)
    assert await findings(backend) == []


async def test_an_immutable_tag_refuses_who_moves_it(backend: Backend, web: StoredRepository) -> None:
    await Tenants(backend.everything, Caller()).set("acme", {"immutable_tags": ["v*"]})
    made = [image(b"layer", n=str(number)) for number in range(3)]
    results = await asyncio.gather(
        web.manifests.put(made[0], ["v1"]),
        web.manifests.put(made[1], ["v1"]),
        web.manifests.put(made[2], ["free"]),
        return_exceptions=True,
    )
    assert results[0] == made[0].digest
    assert isinstance(results[1], TagImmutableError)
    assert results[2] == made[2].digest
    assert (await web.manifests.get_by_tag("v1")).digest == made[0].digest


async def test_a_quota_takes_as_many_as_fit(backend: Backend, web: StoredRepository) -> None:
    await Tenants(backend.everything, Caller()).set("acme", {"quota_manifests": 3})
    results = await asyncio.gather(
        *(web.manifests.put(image(b"layer", n=str(number)), [f"v{number}"]) for number in range(6)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, Digest) for each in results) == 3
    assert sum(isinstance(each, QuotaExceededError) for each in results) == 3
    assert await usage(backend) == (3, 3)


async def test_all_are_warned_of_a_quota(backend: Backend, web: StoredRepository, groups: list[int]) -> None:
    await web.manifests.put(image(b"layer"), ["first"])
    await Tenants(backend.everything, Caller()).set("acme", {"quota_tags": 1000, "quota_bytes": 43})
    groups.clear()
    heard: dict[str, list[str]] = {"ann": [], "bob": []}
    await asyncio.gather(
        *(
            StoredNamespace(backend, Caller(actor=actor, warn=told.append))
            .repository("acme/web")
            .manifests.put(image(b"layer", n=actor), [actor])
            for actor, told in heard.items()
        )
    )
    assert groups == [2]
    assert heard["ann"] == heard["bob"]
    assert len(heard["ann"]) == 1


async def test_a_repository_that_is_read_only(backend: Backend, web: StoredRepository) -> None:
    await Tenants(backend.everything, Caller()).set("acme", {"read_only": True})
    results = await asyncio.gather(
        *(web.manifests.put(image(b"layer", n=str(number))) for number in range(3)), return_exceptions=True
    )
    assert [type(each) for each in results] == [ReadOnlyError] * 3


async def test_several_first_pushes_make_a_repository_once(backend: Backend, groups: list[int]) -> None:
    repositories = [as_caller(backend, f"ann{number}", "acme/new") for number in range(3)]
    await asyncio.gather(
        *(each.manifests.put(parse(BARE % number), [f"v{number}"]) for number, each in enumerate(repositories))
    )
    assert groups == [3, 1, 1, 1]
    made = await rows(backend, "select actor from audit_events where action = 'repository.create'")
    assert made == [("ann0",)]
    assert [tag async for tag in repositories[0].tags.list()] == ["v0", "v1", "v2"]


async def test_who_may_not_make_a_repository_rides_on_nobody(backend: Backend) -> None:
    class Nothing:
        """Of somebody who may not administer the tenant."""

        tenant = account_id = listed = readable_ids = None

        def allows(self, *_: object) -> bool:
            return False

        def repository_id(self, name: object) -> None:
            del name

        tenant_id = repository_id

    await push_blob(namespace_of(backend).repository("acme/web"), CONFIG)
    await Tenants(backend.everything, Caller()).set("acme", {"creators": "admin"})
    refused = StoredNamespace(backend, Caller(actor="eve", authority=cast("object", Nothing())))  # type: ignore[arg-type]
    results = await asyncio.gather(
        refused.repository("acme/new").manifests.put(parse(BARE % 1), ["eve"]),
        namespace_of(backend).repository("acme/new").manifests.put(parse(BARE % 2), ["ann"]),
        return_exceptions=True,
    )
    assert isinstance(results[0], CreationRefusedError)
    assert results[1] == parse(BARE % 2).digest


async def test_many_pushes_of_few_tags(backend: Backend, web: StoredRepository, database_url: str) -> None:
    """By two servers."""
    made = [image(b"layer", n=str(number)) for number in range(60)]
    async with opened(database_url) as other:
        places = [web, namespace_of(other).repository("acme/web")]
        await asyncio.gather(
            *(places[number % 2].manifests.put(each, [f"v{number % 3}", "latest"]) for number, each in enumerate(made))
        )
    assert await usage(backend) == (60, 4)
    moves = {tag: [move.digest async for move in web.tags.history(tag)] for tag in ("v0", "v1", "v2", "latest")}
    assert {tag: len(digests) for tag, digests in moves.items()} == {"v0": 20, "v1": 20, "v2": 20, "latest": 60}
    assert set(moves["latest"]) == {each.digest for each in made}
    assert await findings(backend) == []


async def test_a_tag_that_somebody_else_holds_keeps_others_waiting_for_a_moment_only(
    backend: Backend, web: StoredRepository
) -> None:
    await web.manifests.put(image(b"layer", n="before"), ["held"])

    async def hold(tx: Transaction) -> None:
        await look(tx, "select 1 from tags where name = 'held' for update")
        blocked = asyncio.create_task(web.manifests.put(image(b"layer", n="blocked"), ["held"]))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await asyncio.gather(
                *(web.manifests.put(image(b"layer", n=str(number)), [f"v{number}"]) for number in range(3))
            )
        assert not blocked.done()
        waiting.append(blocked)

    waiting: list[asyncio.Task[Digest]] = []
    await backend.everything.transact(hold)
    await asyncio.gather(*waiting)
    assert (await web.manifests.get_by_tag("held")).digest == image(b"layer", n="blocked").digest


async def test_a_lock_that_one_waits_for_in_vain_is_told_to_it_alone(database_url: str, backend: Backend) -> None:
    async with opened(database_url, lock_timeout_s=0.2) as impatient:
        web = namespace_of(impatient).repository("acme/web")
        for content in (CONFIG, b"layer"):
            await push_blob(web, content)
        await web.manifests.put(image(b"layer", n="before"), ["held"])
        results: list[Digest | BaseException] = []

        async def hold(tx: Transaction) -> None:
            await look(tx, "select 1 from tags where name = 'held' for update")
            puts = [web.manifests.put(image(b"layer", n=tag), [tag]) for tag in ("v1", "held", "v2")]
            results.extend(await asyncio.gather(*puts, return_exceptions=True))

        await backend.everything.transact(hold)
        assert results[0] == image(b"layer", n="v1").digest
        assert isinstance(results[1], CatalogueUnavailableError)
        assert results[2] == image(b"layer", n="v2").digest
