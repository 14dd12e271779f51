"""A push that fails, or loses its connection, at any of its statements: all or nothing, and trying again works.

GitLab's registry wrote a manifest and its layers in several transactions; here each operation is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from distsql.errors import CatalogueUnavailableError, UploadUnknownError
from distsql.oci.digest import Digest
from distsql.registry.context import Backend
from distsql.registry.uploads import Upload
from tests.registry.pushing import CONFIG, image, index, push_blob, push_image
from tests.registry.soundness import findings, namespace_of

pytestmark = pytest.mark.usefixtures("fresh_connections")

FIRST, SECOND = b"first" * 100, b"second" * 100


class Interrupted(Exception):
    pass


class Interruption:
    """An observer that strikes at the n-th statement. ``struck`` tells whether there were so many."""

    def __init__(self, at: int, strike: Callable[[], None]) -> None:
        self._left = at
        self._strike = strike
        self.struck = False

    def __call__(self, name: str, *, seconds: float, round_trips: int) -> None:
        self._left -= 1
        if self._left == 0:
            self.struck = True
            self._strike()


def fail() -> None:
    raise Interrupted


@pytest.fixture(params=["raise", "cancel", pytest.param("terminate", marks=pytest.mark.slow)])
def strike(request: pytest.FixtureRequest, sql: psycopg.Connection[tuple[object, ...]]) -> Callable[[], None]:
    """The ways in which a statement may be the last one."""

    def terminate() -> None:
        sql.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and application_name = 'distsql'"
        )

    def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    ways: dict[str, Callable[[], None]] = {"raise": fail, "terminate": terminate, "cancel": cancel}
    return ways[request.param]


async def interrupted(backend: Backend, at: int, strike: Callable[[], None], operation: Awaitable[object]) -> bool:
    """Runs the operation, which is struck at its ``at``-th statement; false when it has not so many."""
    interruption = Interruption(at, strike)
    task = asyncio.ensure_future(operation)
    backend.database.observe = interruption
    try:
        await task
    except (Interrupted, CatalogueUnavailableError, asyncio.CancelledError):
        assert interruption.struck
    finally:
        backend.database.observe = lambda name, *, seconds, round_trips: None
    return interruption.struck


async def test_a_manifest_put_at_any_statement(backend: Backend, strike: Callable[[], None]) -> None:
    struck, at = True, 0
    while struck:
        at += 1
        repository = namespace_of(backend).repository(f"acme/app{at}")
        old = await push_image(repository, b"layer", tags=["v1"])
        manifest = image(b"layer", subject=Digest.of(b"subject"), note="annotated")
        struck = await interrupted(backend, at, strike, repository.manifests.put(manifest, ["v1", "v2"]))
        pointed = [(await repository.tags.get(tag)).digest async for tag in repository.tags.list()]
        if await repository.manifests.exists(manifest.digest):
            assert pointed == [manifest.digest] * 2
            assert [each.digest async for each in repository.manifests.referrers(Digest.of(b"subject"))]
        else:
            assert struck
            assert pointed == [old.digest]
        await repository.manifests.put(manifest, ["v1", "v2"])
        assert (await repository.manifests.get_by_tag("v2")).digest == manifest.digest
        assert len([move async for move in repository.tags.history("v1")]) == 2
    assert at > 4
    assert await findings(backend) == []


async def test_a_first_put_at_any_statement(backend: Backend, strike: Callable[[], None]) -> None:
    """It makes its repository, and its tenant."""
    manifest = index()
    struck, at = True, 0
    while struck:
        at += 1
        repository = namespace_of(backend).repository(f"tenant{at}/app")
        struck = await interrupted(backend, at, strike, repository.manifests.put(manifest, ["v1"]))
        assert await repository.exists() == await repository.manifests.exists_by_tag("v1")
        await repository.manifests.put(manifest, ["v1"])
        assert (await repository.manifests.get_by_tag("v1")).digest == manifest.digest


async def append(upload: Upload, content: bytes, digest: Digest | None = None) -> None:
    """One request: what it appends, and perhaps the end."""
    async with upload:
        await upload.write(content)
        if digest:
            await upload.finish(digest)


@pytest.mark.parametrize("duplicate", [False, True])
async def test_an_uploads_finish_at_any_statement(
    backend: Backend, strike: Callable[[], None], *, duplicate: bool
) -> None:
    struck, at = True, 0
    while struck:
        at += 1
        repository = namespace_of(backend).repository(f"tenant{at}/app")
        digest = Digest.of(FIRST + SECOND)
        if duplicate:
            await push_blob(namespace_of(backend).repository(f"tenant{at}/other"), FIRST + SECOND)
        upload = await repository.layers.upload()
        await append(upload, FIRST)
        struck = await interrupted(backend, at, strike, append(upload, SECOND, digest))
        if not await repository.layers.exists(digest):
            assert struck
            again = await repository.layers.resume(upload.uuid)
            assert again.tell() == len(FIRST)
            await append(again, SECOND, digest)
        with pytest.raises(UploadUnknownError):
            await repository.layers.resume(upload.uuid)
        assert await (await repository.layers.fetch(digest)).read() == FIRST + SECOND
    assert at > 4
    damage = [each for each in await findings(backend) if "orphan" not in each]
    assert damage == []


async def test_an_uploads_close_at_any_statement(backend: Backend, strike: Callable[[], None]) -> None:
    struck, at = True, 0
    repository = namespace_of(backend).repository("acme/app")
    while struck:
        at += 1
        content = f"content {at}".encode() + FIRST
        upload = await repository.layers.upload()
        struck = await interrupted(backend, at, strike, append(upload, content))
        again = await repository.layers.resume(upload.uuid)
        assert again.tell() in {0, len(content)}
        await append(again, content[again.tell() :], Digest.of(content))
    assert await findings(backend) == []


async def test_a_deletion_at_any_statement(backend: Backend, strike: Callable[[], None]) -> None:
    struck, at = True, 0
    while struck:
        at += 1
        repository = namespace_of(backend).repository(f"acme/app{at}")
        manifest = await push_image(repository, b"layer", tags=["v1", "v2"])
        await repository.signatures.put(manifest.digest, b"signed")
        struck = await interrupted(backend, at, strike, repository.manifests.delete(manifest.digest))
        there = await repository.manifests.exists(manifest.digest)
        assert [tag async for tag in repository.tags.list()] == (["v1", "v2"] if there else [])
        assert list(await repository.signatures.get(manifest.digest)) == ([b"signed"] if there else [])
        if there:
            await repository.manifests.delete(manifest.digest)
    assert await findings(backend) == []


async def test_a_removal_at_any_statement(backend: Backend, strike: Callable[[], None]) -> None:
    struck, at = True, 0
    while struck:
        at += 1
        repository = namespace_of(backend).repository(f"acme/app{at}")
        manifest = await push_image(repository, b"layer", tags=["v1"])
        struck = await interrupted(backend, at, strike, repository.remove())
        if await repository.exists():
            assert struck
            assert await repository.manifests.exists_by_tag("v1")
            assert await repository.layers.exists(Digest.of(CONFIG))
            assert (await repository.manifests.get(manifest.digest)).references() == image(b"layer").references()
            await repository.remove()
        assert not await repository.manifests.exists(manifest.digest)
    assert await findings(backend) == []
