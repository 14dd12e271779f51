"""Small objects in memory: bounded one by one and together, and the store isn't asked for what is there."""

from __future__ import annotations

import pytest

from distsql.app import Registry
from distsql.bytestore.placement import PlacedStores
from distsql.bytestore.small_objects import MOST_OF_ONE, MOST_TOGETHER, SmallObjects
from distsql.errors import BlobUnknownError
from distsql.settings import Settings
from tests.registry.pushing import push_blob


def test_what_is_kept_is_found() -> None:
    small = SmallObjects()
    small.add("one", b"1")
    assert (small.find("one"), small.find("another")) == (b"1", None)


def test_a_large_object_is_not_kept() -> None:
    small = SmallObjects()
    small.add("most", b"x" * MOST_OF_ONE)
    small.add("more", b"x" * (MOST_OF_ONE + 1))
    assert small.find("most") is not None
    assert small.find("more") is None


def test_the_oldest_make_room() -> None:
    small, room = SmallObjects(), MOST_TOGETHER // MOST_OF_ONE
    for number in range(room + 2):
        small.add(str(number), bytes(MOST_OF_ONE))
    kept = [number for number in range(room + 2) if small.find(str(number)) is not None]
    assert kept == list(range(2, room + 2))


async def test_a_layer_is_read_from_the_store_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole; a part of it is the store's. What was deleted is gone for every reader, whatever is still in memory."""
    asked: list[tuple[int, int]] = []
    read = PlacedStores.read

    def counted(self: PlacedStores, key: str, start: int, stop: int) -> object:
        asked.append((start, stop))
        return read(self, key, start, stop)

    monkeypatch.setattr(PlacedStores, "read", counted)
    async with Registry(settings) as registry:
        repository = registry.namespace.repository("acme/web")
        digest = await push_blob(repository, b"small content")
        for _ in range(2):
            assert await (await repository.layers.fetch(digest)).read() == b"small content"
        layer = await repository.layers.fetch(digest)
        layer.seek(6)
        assert (await layer.read(3), await layer.read(), layer.tell()) == (b"con", b"tent", 13)
        assert asked == [(0, 13), (6, 9), (9, 13)]
        await repository.layers.delete(digest)
        with pytest.raises(BlobUnknownError):
            await repository.layers.fetch(digest)
