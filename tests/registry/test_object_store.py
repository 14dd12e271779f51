"""Uploads to an object store by processes that know nothing of each other but through the catalogue."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from urllib.parse import urlsplit

import psycopg
import pytest

from distsql.bytestore.s3 import S3Store
from distsql.bytestore.s3_address import parse_address
from distsql.errors import DigestInvalidError, UploadBusyError, UploadRangeError, UploadUnknownError
from distsql.oci.digest import Digest
from distsql.registry.context import Backend
from distsql.registry.garbage import GarbageCollector
from distsql.registry.repositories import StoredRepository
from distsql.registry.reviews import Periods
from distsql.values import Caller
from tests.bytestore.conftest import SMALL_PARTS
from tests.objectstore import ObjectStore
from tests.registry.soundness import findings, namespace_of, opened, stored

PART = SMALL_PARTS.smallest


@pytest.fixture
async def backends(database_url: str, object_store: ObjectStore) -> AsyncIterator[list[Backend]]:
    """Three processes, as far as the registry can tell."""
    address = parse_address(urlsplit(object_store.url()))
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(opened(database_url, S3Store(address, sizes=SMALL_PARTS), pool_size=3))
            for _ in range(3)
        ]


@pytest.fixture
def repositories(backends: list[Backend]) -> list[StoredRepository]:
    return [namespace_of(backend).repository("acme/web") for backend in backends]


async def test_each_request_may_go_to_another_process(
    repositories: list[StoredRepository], backends: list[Backend]
) -> None:
    first, second, third = repositories
    chunks = [os.urandom(length) for length in (100, PART + 3, 1, 2 * PART)]
    async with await first.layers.upload() as upload:
        await upload.write(chunks[0])
    for repository, chunk in zip((second, third, first), chunks[1:], strict=True):
        async with await repository.layers.resume(upload.uuid) as going_on:
            await going_on.write(chunk)
    whole = b"".join(chunks)
    async with await second.layers.resume(upload.uuid) as last:
        assert last.tell() == len(whole)
        layer = await last.finish(Digest.of(whole))
    assert await layer.read() == whole
    assert await findings(backends[2]) == []  # not even an orphan: tails are gone
    assert await stored(backends[0]) == [(len(whole), True)]


async def test_session_of_a_process_that_died_goes_on_elsewhere(
    repositories: list[StoredRepository], backends: list[Backend]
) -> None:
    dying, living, _ = repositories
    async with await dying.layers.upload() as upload:
        await upload.write(first := os.urandom(PART + 3))
    dead = await dying.layers.resume(upload.uuid)
    await dead.write(os.urandom(2 * PART))  # never closed: what it did is not remembered
    async with await living.layers.resume(upload.uuid) as going_on:
        assert going_on.tell() == len(first)
        await going_on.write(b"rest")
        layer = await going_on.finish(Digest.of(first + b"rest"))
    assert await layer.read() == first + b"rest"
    assert await findings(backends[1]) == []
    with pytest.raises(UploadUnknownError):  # should it live after all
        await dead.close()


@pytest.mark.parametrize("length", [1000, PART + 1000])
async def test_of_two_writers_at_once_one_wins(
    repositories: list[StoredRepository], backends: list[Backend], length: int
) -> None:
    async with await repositories[0].layers.upload() as upload:
        await upload.write(begin := os.urandom(50))
    contents = [os.urandom(length) for _ in repositories]

    async def add(repository: StoredRepository, content: bytes) -> bool:
        try:
            async with await repository.layers.resume(upload.uuid) as mine:
                mine.seek(len(begin))
                await mine.write(content)
                await mine.close()
        except (UploadRangeError, UploadBusyError):
            return False
        return True

    won = await asyncio.gather(*map(add, repositories, contents))
    assert won.count(True) == 1
    whole = begin + contents[won.index(True)]
    async with await repositories[1].layers.resume(upload.uuid) as last:
        layer = await last.finish(Digest.of(whole))
    assert await layer.read() == whole
    assert await findings(backends[0]) == []


async def test_wrong_digest_after_another_process_leaves_the_session_whole(
    repositories: list[StoredRepository], backends: list[Backend]
) -> None:
    """To be hashed again the content has to be completed: then it can still be gone on with."""
    async with await repositories[0].layers.upload() as upload:
        await upload.write(content := os.urandom(2 * PART + 1))
    for repository in repositories[1:]:
        with pytest.raises(DigestInvalidError):
            await (await repository.layers.resume(upload.uuid)).finish(Digest.of(b"other"))
    async with await repositories[0].layers.resume(upload.uuid) as more:
        await more.write(b"more")
    async with await repositories[2].layers.resume(upload.uuid) as last:
        layer = await last.finish(Digest.of(content + b"more"))
    assert await layer.read() == content + b"more"
    assert await findings(backends[0]) == []


@pytest.mark.parametrize("length", [1000, PART + 1000])
async def test_commit_that_fails_after_completing_loses_nothing(
    repositories: list[StoredRepository],
    backends: list[Backend],
    sql: psycopg.Connection[tuple[object, ...]],
    length: int,
) -> None:
    async with await repositories[0].layers.upload() as upload:
        await upload.write(content := os.urandom(length))
    sql.execute("alter table blobs add constraint broken check (length < 0) not valid")
    try:
        with pytest.raises(Exception, match="broken"):
            await (await repositories[1].layers.resume(upload.uuid)).finish(Digest.of(content))
    finally:
        sql.execute("alter table blobs drop constraint broken")
    async with await repositories[2].layers.resume(upload.uuid) as again:
        layer = await again.finish(Digest.of(content))
    assert await layer.read() == content
    assert await findings(backends[0]) == []


async def test_content_that_is_there_already_is_kept_once(
    repositories: list[StoredRepository], backends: list[Backend]
) -> None:
    content = os.urandom(PART + 5)
    for repository in repositories:
        async with await repository.layers.upload() as upload:
            await upload.write(content)
            await upload.finish(Digest.of(content))
    assert await stored(backends[0]) == [(len(content), True)]


async def test_lost_bytes_are_healed_by_a_push(repositories: list[StoredRepository], backends: list[Backend]) -> None:
    content = os.urandom(PART + 5)

    async def push(repository: StoredRepository) -> None:
        async with await repository.layers.upload() as upload:
            await upload.write(content)
            await upload.finish(Digest.of(content))

    await push(repositories[0])
    async for found in backends[1].store.walk():
        await backends[1].store.delete(found.key)
    assert [each for each in await findings(backends[1]) if "missing" in each]
    await push(repositories[2])
    assert await findings(backends[1]) == []
    assert await (await repositories[0].layers.fetch(Digest.of(content))).read() == content


@pytest.mark.parametrize("ends", ["expires", "is cancelled"])
async def test_abandoned_parts_go_without_a_walk_over_the_bucket(
    repositories: list[StoredRepository],
    backends: list[Backend],
    sql: psycopg.Connection[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    ends: str,
) -> None:
    async with await repositories[0].layers.upload() as upload:
        await upload.write(os.urandom(PART + 5))
    unclosed = await repositories[1].layers.resume(upload.uuid)
    await unclosed.write(os.urandom(2 * PART))  # its process dies
    assert len(await stored(backends[0])) >= 2
    if ends == "expires":
        sql.execute("update uploads set expires_at = now()")
        with monkeypatch.context() as patched:
            patched.setattr(S3Store, "walk", _no_walk)
            collector = GarbageCollector(
                backends[2], Caller(), periods=Periods(timedelta(hours=1)), notify=lambda what, count: None
            )
            await collector.run()
    else:
        await (await repositories[2].layers.resume(upload.uuid)).cancel()
    assert await stored(backends[0]) == []


async def _no_walk(_store: S3Store) -> AsyncIterator[object]:
    nothing: tuple[object, ...] = ()
    for each in nothing:
        yield each
