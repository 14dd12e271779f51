"""What can go wrong with an upload's bytes: the store fails, is full, or has lost them; the caller goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from types import TracebackType
from typing import Self

import pytest

from distsql.bytestore.contract import Buffer, Observer, Staged, StagedWriter
from distsql.bytestore.memory import MemoryStore
from distsql.errors import (
    BytesMissingError,
    DigestInvalidError,
    DistsqlError,
    StoreFullError,
    StoreUnavailableError,
    UploadUnknownError,
)
from distsql.oci.digest import Digest
from distsql.registry.batches import BATCH
from distsql.registry.context import Backend
from distsql.registry.repositories import StoredRepository
from distsql.registry.uploads import Upload
from tests.registry.pushing import push_blob
from tests.registry.soundness import findings, namespace_of, opened, stored

FIRST = b"0123456789" * 1000
REST = bytes(range(256)) * (BATCH // 100)
WHOLE = Digest.of(FIRST + REST)


class FailingStore(MemoryStore):
    """Fails on demand: ``fails`` names the step. It counts writers that were entered and not left."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: dict[str, DistsqlError] = {}
        self.stalls: dict[str, asyncio.Event] = {}
        self.open_writers = 0
        self.rehashed = 0

    async def at(self, step: str) -> None:
        if step in self.stalls:
            self.stalls[step].set()
            await asyncio.Event().wait()
        if step in self.fails:
            raise self.fails[step]

    def writer(self, staged: Staged) -> StagedWriter:  # type: ignore[override]
        return FailingWriter(self, super().writer(staged))

    async def staged_stream(self, staged: Staged) -> AsyncIterator[bytes]:
        self.rehashed += 1
        async for piece in super().staged_stream(staged):
            yield piece

    async def abort(self, staged: Staged) -> None:
        await self.at("abort")
        await super().abort(staged)


class FailingWriter:
    """Like a real one, it is of no use any more once a step failed or was cancelled."""

    def __init__(self, store: FailingStore, inner: StagedWriter) -> None:
        self._store = store
        self._inner = inner
        self._intact = True

    async def __aenter__(self) -> Self:
        await self._store.at("enter")
        await self._inner.__aenter__()
        self._store.open_writers += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.open_writers -= 1
        await self._inner.__aexit__(kind, error, trace)

    @property
    def is_newest(self) -> bool:
        return self._inner.is_newest

    async def write(self, *data: Buffer, observe: Observer | None = None) -> None:
        await self._step("write")
        await self._inner.write(*data, observe=observe)

    async def flush(self) -> Staged:
        await self._step("flush")
        return await self._inner.flush()

    @property
    def checkpoint_due(self) -> bool:
        return self._inner.checkpoint_due

    async def checkpoint(self) -> Staged:
        return await self._inner.checkpoint()

    async def seal(self) -> Staged | None:
        return await self._inner.seal()

    async def complete(self) -> Staged:
        await self._step("complete")
        return await self._inner.complete()

    async def _step(self, step: str) -> None:
        if not self._intact:
            raise StoreUnavailableError("an earlier write failed")
        self._intact = False
        await self._store.at(step)
        self._intact = True


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


@pytest.fixture
async def backend(database_url: str, store: FailingStore) -> AsyncIterator[Backend]:
    async with opened(database_url, store) as backend:
        yield backend


@pytest.fixture
def repository(backend: Backend) -> StoredRepository:
    return namespace_of(backend).repository("acme/web")


async def pieces(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def append(upload: Upload, content: bytes, digest: Digest | None) -> None:
    await upload.read_from(pieces(content))
    if digest:
        await upload.finish(digest)


async def request(upload: Upload, content: bytes, digest: Digest | None) -> None:
    async with upload:
        await append(upload, content, digest)


@pytest.mark.parametrize("error", [StoreFullError("no room"), StoreUnavailableError("away")], ids=["full", "away"])
@pytest.mark.parametrize("step", ["enter", "write", "flush", "complete"])
async def test_a_store_that_fails_leaves_the_session_where_it_was(
    backend: Backend, store: FailingStore, repository: StoredRepository, step: str, error: DistsqlError
) -> None:
    async with await repository.layers.upload() as upload:
        await upload.write(FIRST)
    store.fails = {step: error}
    upload = await repository.layers.resume(upload.uuid)
    with pytest.raises(type(error)) as raised:
        await request(upload, REST, WHOLE if step == "complete" else None)
    assert raised.value is error
    assert upload.tell() == len(FIRST)
    assert store.open_writers == 0
    store.fails = {}
    async with await repository.layers.resume(upload.uuid) as again:
        assert again.tell() == len(FIRST)
        await again.read_from(pieces(REST))
        await again.finish(WHOLE)
    assert await findings(backend) == []
    assert store.open_writers == 0


@pytest.mark.parametrize("step", ["write", "complete"])
async def test_the_same_session_goes_on_when_the_store_is_back(
    backend: Backend, store: FailingStore, repository: StoredRepository, step: str
) -> None:
    async with await repository.layers.upload() as upload:
        for _ in range(3):
            store.fails = {step: StoreFullError("no room")}
            with pytest.raises(StoreFullError):
                await append(upload, FIRST + REST, WHOLE)
            assert upload.tell() == 0
        store.fails = {}
        await upload.read_from(pieces(FIRST + REST))
        await upload.finish(WHOLE)
    assert await findings(backend) == []


async def test_an_error_of_the_background_comes_at_the_latest_with_close(
    store: FailingStore, repository: StoredRepository
) -> None:
    upload = await repository.layers.upload()
    await upload.write(REST)  # one batch: it is stored while we do something else
    store.fails = {"write": StoreFullError("no room")}
    with pytest.raises(StoreFullError):
        await upload.close()
    await upload.close()
    assert (await repository.layers.resume(upload.uuid)).tell() == 0
    assert store.open_writers == 0


@pytest.mark.parametrize("step", ["write", "flush", "complete"])
async def test_a_caller_that_is_cancelled_leaves_nothing_open(
    backend: Backend, store: FailingStore, repository: StoredRepository, step: str
) -> None:
    async with await repository.layers.upload() as upload:
        await upload.write(FIRST)
    store.stalls = {step: asyncio.Event()}

    again = await repository.layers.resume(upload.uuid)
    task = asyncio.create_task(request(again, REST, WHOLE if step == "complete" else None))
    await store.stalls[step].wait()
    task.cancel()
    store.stalls = {}
    if step == "write":  # close() still waits for the batch that stalls: a second cancellation ends that as well
        await asyncio.sleep(0.01)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.open_writers == 0
    async with await repository.layers.resume(upload.uuid) as again:
        assert again.tell() == len(FIRST)
        await again.read_from(pieces(REST))
        await again.finish(WHOLE)
    assert await findings(backend) == []


async def test_an_expired_session_is_over(database_url: str) -> None:
    async with opened(database_url, upload_lifetime=timedelta(0)) as backend:
        repository = namespace_of(backend).repository("acme/web")
        upload = await repository.layers.upload()
        with pytest.raises(UploadUnknownError):
            await repository.layers.resume(upload.uuid)
        with pytest.raises(UploadUnknownError):
            await upload.write(b"x")


async def test_content_is_hashed_once_as_long_as_one_process_writes_it(
    store: FailingStore, repository: StoredRepository
) -> None:
    upload = await repository.layers.upload()
    for at in range(0, 500, 100):
        async with await repository.layers.resume(upload.uuid) as each:
            await each.write(FIRST[at : at + 100])
    async with await repository.layers.resume(upload.uuid) as each:
        await each.finish(Digest.of(FIRST[:500]))
    assert store.rehashed == 0


async def test_what_another_process_wrote_is_hashed_from_its_bytes(
    database_url: str, backend: Backend, store: FailingStore, repository: StoredRepository
) -> None:
    async with await repository.layers.upload() as upload:
        await upload.write(FIRST)
    async with opened(database_url, store) as other:
        async with await namespace_of(other).repository("acme/web").layers.resume(upload.uuid) as there:
            await there.write(b"theirs")
        async with await repository.layers.resume(upload.uuid) as here:
            await here.write(b"ours")
            with pytest.raises(DigestInvalidError):
                await here.finish(Digest.of(FIRST + b"ours"))
            await here.write(b"ours")
            await here.finish(Digest.of(FIRST + b"theirs" + b"ours"))
        assert store.rehashed > 0
        assert await findings(backend) == []


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_what_another_process_only_ends_is_not_read_again(
    database_url: str, store: FailingStore, repository: StoredRepository, algorithm: str
) -> None:
    """Clients send a blob over one connection and its end over another, and each may be another process's."""
    upload = await repository.layers.upload()
    for piece in (FIRST[:100], FIRST[100:]):
        async with await repository.layers.resume(upload.uuid) as here:
            await here.write(piece)
    async with opened(database_url, store) as other:
        there = await namespace_of(other).repository("acme/web").layers.resume(upload.uuid)
        with pytest.raises(DigestInvalidError):
            await there.finish(Digest.of(FIRST + b"more"))
        await there.finish(Digest.of(FIRST, algorithm))
    # The client had said of neither that it wouldn't be the usual one.
    assert (store.rehashed > 0) == (algorithm == "sha512")


async def test_a_duplicate_leaves_no_bytes(backend: Backend, repository: StoredRepository) -> None:
    other = namespace_of(backend).repository("acme/other")
    for each in (repository, repository, other):
        assert await push_blob(each, REST) == Digest.of(REST)
    assert await stored(backend) == [(len(REST), True)]


async def test_a_duplicate_that_cant_be_forgotten_is_pushed_nevertheless(
    backend: Backend, store: FailingStore, repository: StoredRepository
) -> None:
    """It is committed; what is left is an orphan, and swept."""
    await push_blob(repository, REST)
    store.fails = {"abort": StoreUnavailableError("away")}
    await push_blob(repository, REST)
    store.fails = {}
    [orphan] = await findings(backend)
    assert "orphan" in orphan


@pytest.mark.parametrize("lost", ["everything", "the end"])
async def test_lost_bytes_are_healed_by_a_push(
    backend: Backend, store: FailingStore, repository: StoredRepository, lost: str
) -> None:
    digest = await push_blob(repository, REST)
    [key] = [each.key async for each in store.walk()]
    if lost == "everything":
        await store.delete(key)
    else:
        del store._finished[key].data[100:]
    layer = await repository.layers.fetch(digest)
    with pytest.raises(BytesMissingError):
        await layer.read()
    assert len(await findings(backend)) == 1
    await asyncio.gather(*(push_blob(repository, REST) for _ in range(3)))
    assert await (await repository.layers.fetch(digest)).read() == REST
    assert [each for each in await findings(backend) if "orphan" not in each] == []


async def test_what_is_lost_while_it_is_uploaded_is_no_ended_session(
    backend: Backend, store: FailingStore, repository: StoredRepository
) -> None:
    async with await repository.layers.upload() as upload:
        await upload.write(FIRST)
    [key] = [each.key async for each in store.walk()]
    await store.abort(Staged(key))
    with pytest.raises(BytesMissingError):
        await upload.write(b"more")
    await upload.cancel()
