"""Pushes beside pushes, deletions and mounts: whoever wins, what is left is whole."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable

import psycopg
import pytest

from distsql.errors import DistsqlError, RegistryError
from distsql.oci.digest import Digest
from distsql.registry.context import Backend
from distsql.registry.namespace import StoredNamespace
from distsql.registry.repositories import StoredRepository
from tests.registry.pushing import CONFIG, image, index, push_blob, push_image
from tests.registry.soundness import findings, namespace_of, opened, stored

ROUNDS = 8


@pytest.fixture
def namespace(backend: Backend) -> StoredNamespace:
    return namespace_of(backend)


@pytest.fixture
def repository(namespace: StoredNamespace) -> StoredRepository:
    return namespace.repository("acme/web")


async def outcomes(*operations: Awaitable[object]) -> list[bool]:
    """All of them at once: which went well. What didn't was refused for a reason of the registry's own."""
    results = await asyncio.gather(*operations, return_exceptions=True)
    for result in results:
        assert not isinstance(result, BaseException) or isinstance(result, RegistryError), repr(result)
    return [not isinstance(result, BaseException) for result in results]


async def push_all(repository: StoredRepository, layers: list[bytes], tag: str) -> None:
    shuffled = random.sample(layers, len(layers))
    for content in shuffled:
        await push_blob(repository, content)
    await repository.manifests.put(image(*shuffled, n=tag), [tag])


@pytest.mark.parametrize(
    ("pushes", "layers"), [(10, 10), pytest.param(32, 50, marks=pytest.mark.slow)], ids=["few", "many"]
)
async def test_pushes_of_images_with_the_same_layers(database_url: str, pushes: int, layers: int) -> None:
    """GitLab #732: deadlocks on shared layers."""
    contents = [CONFIG, *(f"layer {number}".encode() for number in range(layers))]
    before = deadlocks(database_url)
    async with opened(database_url) as backend:
        repositories = [namespace_of(backend).repository(f"acme/app{number % 4}") for number in range(pushes)]
        await asyncio.gather(
            *(push_all(repository, contents, f"v{number}") for number, repository in enumerate(repositories))
        )
        assert await findings(backend) == []
        assert sorted(length for length, _ in await stored(backend)) == sorted(map(len, contents))
    assert deadlocks(database_url) == before


def deadlocks(database_url: str) -> object:
    """How many PostgreSQL has met in this database; it counts when connections end."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for _ in range(50):
            others = connection.execute(
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and application_name = 'distsql'"
            ).fetchone()
            if others == (0,):
                break
            time.sleep(0.05)
        row = connection.execute("select deadlocks from pg_stat_database where datname = current_database()").fetchone()
        return row and row[0]


async def test_a_put_beside_the_deletion_of_its_layer(backend: Backend, repository: StoredRepository) -> None:
    for turn in range(ROUNDS):
        await push_blob(repository, CONFIG)
        layer = await push_blob(repository, b"layer")
        manifest = image(b"layer", n=str(turn))
        put, deleted = await outcomes(repository.manifests.put(manifest, ["v1"]), repository.layers.delete(layer))
        assert put != deleted
        assert await repository.layers.exists(layer) == put == await repository.manifests.exists(manifest.digest)
        if put:
            await repository.manifests.delete(manifest.digest)
    assert [each for each in await findings(backend) if "orphan" not in each] == []


async def test_a_put_beside_the_deletion_of_its_child(backend: Backend, repository: StoredRepository) -> None:
    for turn in range(ROUNDS):
        child = await push_image(repository, b"layer", tags=["child"])
        parent = index(child, image(b"layer", n=str(turn)))
        await repository.manifests.put(image(b"layer", n=str(turn)))
        put, deleted = await outcomes(
            repository.manifests.put(parent, ["v1"]), repository.manifests.delete(child.digest)
        )
        assert put != deleted
        assert (
            await repository.manifests.exists_by_tag("child") == put == await repository.manifests.exists_by_tag("v1")
        )
        if put:
            await repository.manifests.delete(parent.digest)
    assert await findings(backend) == []


async def test_tagging_beside_the_deletion_of_the_manifest(backend: Backend, repository: StoredRepository) -> None:
    for _ in range(ROUNDS):
        manifest = await push_image(repository, b"layer", tags=["old"])
        tagged, again, deleted, signed = await outcomes(
            repository.tags.tag("v1", manifest.digest),
            repository.manifests.put(manifest, ["v2"]),
            repository.manifests.delete(manifest.digest),
            repository.signatures.put(manifest.digest, b"signed"),
        )
        assert deleted
        assert again
        there = await repository.manifests.exists(manifest.digest)
        live = [tag async for tag in repository.tags.list()]
        assert live == [] if not there else set(live) <= {"v1", "v2"}
        for tag in live:
            assert (await repository.manifests.get_by_tag(tag)).digest == manifest.digest
        assert tagged or "v1" not in live
        assert signed or not await repository.signatures.get(manifest.digest)
    assert await findings(backend) == []


@pytest.mark.slow  # a removal beside pushes may wait for PostgreSQL to find a deadlock: one second
async def test_everything_beside_the_removal_of_the_repository(
    backend: Backend, namespace: StoredNamespace, repository: StoredRepository
) -> None:
    source = namespace.repository("acme/source")
    await push_image(source, b"layer")
    for turn in range(3):
        manifest = await push_image(repository, b"layer", tags=["v1"])
        other = image(b"layer", n=str(turn))
        results = await outcomes(
            repository.remove(),
            repository.manifests.put(other, ["v2"]),
            push_blob(repository, b"new"),
            repository.layers.mount(Digest.of(b"layer"), "acme/source"),
            repository.tags.tag("v3", manifest.digest),
            repository.signatures.put(manifest.digest, b"signed"),
            repository.layers.delete(Digest.of(b"new")),
        )
        assert results[0]
        if await repository.exists():
            assert [tag async for tag in repository.tags.list()] == []
        assert [each for each in await findings(backend) if "orphan" not in each] == []


async def test_a_mount_beside_the_deletion_at_its_source(
    backend: Backend, namespace: StoredNamespace, repository: StoredRepository
) -> None:
    source = namespace.repository("acme/source")
    for turn in range(ROUNDS):
        content = f"content {turn}".encode()
        digest = await push_blob(source, content)
        mounted, deleted = await outcomes(repository.layers.mount(digest, "acme/source"), source.layers.delete(digest))
        assert deleted
        assert await repository.layers.exists(digest) == mounted
        if mounted:
            assert await (await repository.layers.fetch(digest)).read() == content


async def test_many_upload_the_same_content(
    backend: Backend, namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    content = b"the same" * 100_000
    repositories = [namespace.repository(f"acme/app{number % 3}") for number in range(16)]
    await asyncio.gather(*(push_blob(repository, content) for repository in repositories))
    assert sql.execute("select count(*) from blobs").fetchone() == (1,)
    assert sql.execute("select count(*) from layers").fetchone() == (3,)
    assert sql.execute("select count(*) from uploads").fetchone() == (0,)
    assert await stored(backend) == [(len(content), True)]
    assert await findings(backend) == []


async def test_many_first_pushes_make_one_repository(
    namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    async def push(number: int) -> None:
        await push_image(namespace.repository("acme/web"), tags=[f"v{number}"])

    await asyncio.gather(*(push(number) for number in range(12)))
    assert sql.execute("select count(*) from repositories").fetchone() == (1,)
    assert sql.execute("select count(*) from tenants where name = 'acme'").fetchone() == (1,)
    created = sql.execute("select count(*) from audit_events where action = 'repository.create'")
    assert created.fetchone() == (1,)


@pytest.mark.slow
async def test_pushes_and_removals_in_a_loop(backend: Backend, repository: StoredRepository) -> None:
    """First pushes race with the removal of the repository that they are making."""

    async def push(number: int) -> int:
        done = 0
        for _ in range(4):
            try:
                await push_image(repository, f"layer {number}".encode(), tags=[f"v{number}"])
                done += 1
            except DistsqlError:  # gone in the middle: what a client gets told, and tries again
                continue
        return done

    async def remove() -> int:
        for _ in range(3):
            await asyncio.gather(repository.remove(), return_exceptions=True)
            await asyncio.sleep(0.02)
        return 1

    assert sum(await asyncio.gather(*(push(number) for number in range(3)), remove())) > 1
    assert [each for each in await findings(backend) if "orphan" not in each] == []
    await push_image(repository, b"after", tags=["after"])
