"""Byte stores to test. One that joins `STORES` has to pass `test_contract*` and `test_properties` as they stand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from distsql.bytestore.contract import ByteStore, Staged
from distsql.bytestore.filesystem import FilesystemStore
from distsql.bytestore.memory import MemoryStore
from tests.bytestore.steps import complete

Opener = Callable[[Path], tuple[ByteStore, ByteStore]]


def _memory(_folder: Path) -> tuple[ByteStore, ByteStore]:
    store = MemoryStore()  # belongs to one process: its own twin
    return store, store


def _filesystem(folder: Path) -> tuple[ByteStore, ByteStore]:
    return FilesystemStore(folder / "store"), FilesystemStore(folder / "store")


STORES: dict[str, Opener] = {"memory": _memory, "filesystem": _filesystem}

Keep = Callable[[ByteStore, bytes], Awaitable[Staged]]


@pytest.fixture(params=list(STORES))
async def twins(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[ByteStore, ByteStore]]:
    """Two stores over the same bytes, as two processes have them."""
    store, twin = STORES[request.param](tmp_path)
    await store.open()
    await twin.open()
    yield store, twin
    await twin.close()
    await store.close()


@pytest.fixture
def store(twins: tuple[ByteStore, ByteStore]) -> ByteStore:
    return twins[0]


@pytest.fixture
def twin(twins: tuple[ByteStore, ByteStore]) -> ByteStore:
    return twins[1]


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    """A store in files, for what is particular to it; its root is ``tmp_path / "store"``."""
    store = FilesystemStore(tmp_path / "store")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def root(tmp_path: Path, files: FilesystemStore) -> Path:
    return tmp_path / "store"


@pytest.fixture
def stage() -> Keep:
    """Writes content to a new object and flushes it."""

    async def stage(store: ByteStore, content: bytes) -> Staged:
        async with store.writer(await store.begin()) as writer:
            await writer.write(content)
            return await writer.flush()

    return stage


@pytest.fixture
def keep(stage: Keep) -> Keep:
    """Writes content to a new object and completes it."""

    async def keep(store: ByteStore, content: bytes) -> Staged:
        staged = await stage(store, content)
        await complete(store, staged)
        return staged

    return keep
