"""Several stores as one: a key says in front which store it is of, so whoever reads or deletes bytes asks one thing.

Keys of the store that the settings name have nothing in front: those of a registry that has always had one store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from distsql.bytestore.contract import ByteStore, Staged, StagedWriter, StoredObject
from distsql.bytestore.placed_writer import PlacedWriter
from distsql.errors import BytesMissingError, StoreUnavailableError

LOST: Final = "lost"
"""In front of a key whose bytes were found damaged: it names nothing, so the next push brings new ones."""

_SEPARATOR: Final = ":"


def name_of(key: str) -> str | None:
    """The name of the store that the key is of, None for the one that the settings name."""
    name, separator, _ = key.partition(_SEPARATOR)
    return name if separator else None


class PlacedStores:
    """A `ByteStore` over ``default`` and those that ``find_urls`` names; each is opened when it is first needed."""

    def __init__(
        self,
        default: ByteStore,
        *,
        find_urls: Callable[[], Awaitable[Mapping[str, str]]],
        open_store: Callable[[str], ByteStore],
    ) -> None:
        self._default = default
        self._find_urls = find_urls
        self._open_store = open_store
        self._named: dict[str, NamedStore] = {}

    @property
    def url(self) -> str:
        return self._default.url

    @property
    def minimum_chunk(self) -> int:
        return self._default.minimum_chunk

    @property
    def exclusive(self) -> bool:
        return self._default.exclusive

    async def open(self) -> None:
        """Only the default store: another one that is away concerns its tenants alone."""
        await self._default.open()

    async def close(self) -> None:
        await self._default.close()
        for store in self._named.values():
            await store.close()

    async def named(self, name: str | None) -> ByteStore:
        """The store of this name, open; of None, that of the settings. `StoreUnavailableError` if there is none."""
        if name is None:
            return self._default
        if name not in self._named:
            url = (await self._find_urls()).get(name)
            if url is None:
                raise StoreUnavailableError(f"there is no byte store {name[:40]!r}: `distsql store add` makes it known")
            store = NamedStore(name, self._open_store(url))
            try:
                await store.open()
            except BaseException:
                await store.close()  # the next one who needs it tries again
                raise
            self._named.setdefault(name, store)
        return self._named[name]

    async def of(self, key: str) -> ByteStore:
        """The store that the key is of."""
        name = name_of(key)
        if name == LOST:
            raise BytesMissingError(f"the bytes of {key[:80]} were found damaged: push that content again")
        return await self.named(name)

    async def begin(self) -> Staged:
        return await self._default.begin()

    async def claim(self, staged: Staged) -> Staged:
        return await (await self.of(staged.key)).claim(staged)

    def writer(self, staged: Staged) -> StagedWriter:
        name = name_of(staged.key)
        if name is not None and name not in self._named:
            raise StoreUnavailableError(f"the byte store {name[:40]!r} is not open")
        return (self._default if name is None else self._named[name]).writer(staged)

    async def staged_stream(self, staged: Staged) -> AsyncIterator[bytes]:
        async for piece in (await self.of(staged.key)).staged_stream(staged):
            yield piece

    async def abort(self, staged: Staged) -> None:
        if name_of(staged.key) != LOST:
            await (await self.of(staged.key)).abort(staged)

    async def settle(self, staged: Staged) -> None:
        await (await self.of(staged.key)).settle(staged)

    async def length(self, key: str) -> int | None:
        return None if name_of(key) == LOST else await (await self.of(key)).length(key)

    def read(self, key: str, start: int, stop: int) -> Coroutine[Any, Any, bytes]:
        # Without a step in between, as most keys are the default store's and many a request reads one.
        return self._read(key, start, stop) if _SEPARATOR in key else self._default.read(key, start, stop)

    async def _read(self, key: str, start: int, stop: int) -> bytes:
        return await (await self.of(key)).read(key, start, stop)

    async def stream(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        async for piece in (await self.of(key)).stream(key, start, stop):
            yield piece

    def local_path(self, key: str) -> Path | None:
        name = name_of(key)
        if name is None:
            return self._default.local_path(key)
        return self._named[name].local_path(key) if name in self._named else None

    def redirect_url(self, key: str, *, expires_s: int) -> Coroutine[Any, Any, str | None]:
        if _SEPARATOR in key:
            return self._redirect_url(key, expires_s=expires_s)
        return self._default.redirect_url(key, expires_s=expires_s)

    async def _redirect_url(self, key: str, *, expires_s: int) -> str | None:
        return await (await self.of(key)).redirect_url(key, expires_s=expires_s)

    async def delete(self, key: str) -> None:
        if name_of(key) != LOST:
            await (await self.of(key)).delete(key)

    async def walk(self) -> AsyncIterator[StoredObject]:
        for name in (None, *await self._find_urls()):
            async for found in (await self.named(name)).walk():
                yield found


class NamedStore:
    """A store whose keys have its name in front."""

    def __init__(self, name: str, inner: ByteStore) -> None:
        self._inner = inner
        self._front = name + _SEPARATOR

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def minimum_chunk(self) -> int:
        return self._inner.minimum_chunk

    @property
    def exclusive(self) -> bool:
        return self._inner.exclusive

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def begin(self) -> Staged:
        return self._out(await self._inner.begin())

    async def claim(self, staged: Staged) -> Staged:
        return self._out(await self._inner.claim(self._in(staged)))

    def writer(self, staged: Staged) -> StagedWriter:
        return PlacedWriter(self._inner.writer(self._in(staged)), self._out)

    def staged_stream(self, staged: Staged) -> AsyncIterator[bytes]:
        return self._inner.staged_stream(self._in(staged))

    async def abort(self, staged: Staged) -> None:
        await self._inner.abort(self._in(staged))

    async def settle(self, staged: Staged) -> None:
        await self._inner.settle(self._in(staged))

    async def length(self, key: str) -> int | None:
        return await self._inner.length(self._bare(key))

    async def read(self, key: str, start: int, stop: int) -> bytes:
        return await self._inner.read(self._bare(key), start, stop)

    def stream(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        return self._inner.stream(self._bare(key), start, stop)

    def local_path(self, key: str) -> Path | None:
        return self._inner.local_path(self._bare(key))

    async def redirect_url(self, key: str, *, expires_s: int) -> str | None:
        return await self._inner.redirect_url(self._bare(key), expires_s=expires_s)

    async def delete(self, key: str) -> None:
        await self._inner.delete(self._bare(key))

    async def walk(self) -> AsyncIterator[StoredObject]:
        async for found in self._inner.walk():
            staged_key = self._front + found.staged_key if found.staged_key else ""
            yield replace(found, key=self._front + found.key, staged_key=staged_key)

    def _bare(self, key: str) -> str:
        return key.removeprefix(self._front)

    def _in(self, staged: Staged) -> Staged:
        return replace(staged, key=self._bare(staged.key))

    def _out(self, staged: Staged) -> Staged:
        return replace(staged, key=self._front + staged.key)
