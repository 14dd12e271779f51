"""Byte stores to test. One that joins `STORES` has to pass `test_contract*` and `test_properties` as they stand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from distsql.bytestore.contract import ByteStore, Staged
from distsql.bytestore.filesystem import FilesystemStore
from distsql.bytestore.memory import MemoryStore
from distsql.bytestore.s3 import S3Store
from distsql.bytestore.s3_address import parse_address
from distsql.bytestore.s3_layout import PartSizes
from tests import objectstore
from tests.bytestore.steps import append, complete

Opener = Callable[[Path, pytest.FixtureRequest], tuple[ByteStore, ByteStore]]

# As small as the protocol allows, and growing soon.
MIB = 1024 * 1024
SMALL_PARTS = PartSizes(((1, 5 * MIB), (4, 6 * MIB)), held=15 * MIB)


def _memory(_folder: Path, _request: pytest.FixtureRequest) -> tuple[ByteStore, ByteStore]:
    store = MemoryStore()  # belongs to one process: its own twin
    return store, store


def _filesystem(folder: Path, _request: pytest.FixtureRequest) -> tuple[ByteStore, ByteStore]:
    return FilesystemStore(folder / "store"), FilesystemStore(folder / "store")


def _s3(_folder: Path, request: pytest.FixtureRequest) -> tuple[ByteStore, ByteStore]:
    server: objectstore.ObjectStore = request.getfixturevalue("object_store")
    address = parse_address(urlsplit(server.url()))
    return S3Store(address, sizes=SMALL_PARTS), S3Store(address, sizes=SMALL_PARTS)


STORES: dict[str, Opener] = {"memory": _memory, "filesystem": _filesystem, "s3": _s3}

Keep = Callable[[ByteStore, bytes], Awaitable[Staged]]


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) if name == "s3" else name for name in STORES])
async def twins(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[ByteStore, ByteStore]]:
    """Two stores over the same bytes, as two processes have them."""
    store, twin = STORES[request.param](tmp_path, request)
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
        return await append(store, await store.begin(), content)

    return stage


@pytest.fixture
def keep(stage: Keep) -> Keep:
    """Writes content to a new object and completes it."""

    async def keep(store: ByteStore, content: bytes) -> Staged:
        return await complete(store, await stage(store, content))

    return keep
