"""Memory stays flat, however much content passes through; and listings are as deep as they need to be."""

from __future__ import annotations

import gc
import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from distsql.bytestore.filesystem import FilesystemStore
from distsql.oci.digest import Digest
from distsql.oci.names import name_bound
from distsql.registry.namespace import StoredNamespace
from distsql.registry.paging import PAGE, full_name_bound
from tests.registry.pushing import CONFIG, image, push_blob
from tests.registry.soundness import namespace_of, opened

MIB = 1024**2
PIECE = bytes(range(256)) * 256
PIECES = 64 * MIB // len(PIECE)


async def many_pieces() -> AsyncIterator[bytes]:
    for _ in range(PIECES):
        yield bytes(bytearray(PIECE))  # new each time, as bodies of requests are


async def test_64_mib_take_few_of_memory(database_url: str, tmp_path: Path) -> None:
    running = hashlib.sha256()
    for _ in range(PIECES):
        running.update(PIECE)
    digest = Digest.from_hash(running)
    async with opened(database_url, FilesystemStore(tmp_path)) as backend:
        repository = namespace_of(backend).repository("acme/web")
        await push_blob(repository, b"all is imported and connected")
        gc.collect()
        tracemalloc.start()
        try:
            async with await repository.layers.upload() as upload:
                assert await upload.read_from(many_pieces()) == 64 * MIB
                layer = await upload.finish(digest)
            assert tracemalloc.get_traced_memory()[1] < 6 * MIB
            tracemalloc.reset_peak()
            length = 0
            async for piece in layer.stream(0, layer.length):
                length += len(piece)
            while piece := await layer.read(MIB):
                length += len(piece)
            assert length == 2 * 64 * MIB
            assert tracemalloc.get_traced_memory()[1] < 6 * MIB
        finally:
            tracemalloc.stop()


async def test_a_listing_over_its_real_pages(namespace: StoredNamespace) -> None:
    repository = namespace.repository("acme/web")
    await push_blob(repository, CONFIG)
    names = sorted(f"v{number}" for number in range(PAGE + 150))
    for at in range(0, len(names), 100):
        await repository.manifests.put(image(), names[at : at + 100])
    assert [tag async for tag in repository.tags.list()] == names
    assert [tag async for tag in repository.tags.list(limit=PAGE + 1)] == names[: PAGE + 1]
    assert [tag async for tag in repository.tags.lookup(image().digest)] == names


@pytest.mark.parametrize(
    "after", ["", "a", "a-", "a/", "a/b", "a/b\0", "\0", "é", "a\x7f", "a/é", "\ud800", "~", "a\0/b"]
)
def test_a_bound_has_the_same_names_behind_it(after: str) -> None:
    names = ["a-b/x", "a.b/x", "a/a", "a/b", "a/b-c", "a/b/c", "a/b0", "a/z", "a0/x", "b/x", "zz/z"]
    expected = [name for name in names if name > after]
    assert [name for name in names if name > name_bound(after)] == expected
    # As the statements compare: the tenant with its slash, then the path.
    tenant, path = full_name_bound(after)
    pairs = [(f"{name.partition('/')[0]}/", name.partition("/")[2]) for name in names]
    assert ["".join(pair) for pair in pairs if pair > (f"{tenant}/", path)] == expected
