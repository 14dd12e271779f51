"""Writing to a store whose keys have its name in front."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from distsql.bytestore.contract import Buffer, Observer, Staged, StagedWriter


class PlacedWriter:
    """A `StagedWriter` whose values are ``named`` on their way out."""

    def __init__(self, inner: StagedWriter, named: Callable[[Staged], Staged]) -> None:
        self._inner = inner
        self._named = named

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)

    @property
    def is_newest(self) -> bool:
        return self._inner.is_newest

    async def write(self, *data: Buffer, observe: Observer | None = None) -> None:
        await self._inner.write(*data, observe=observe)

    async def flush(self) -> Staged:
        return self._named(await self._inner.flush())

    @property
    def checkpoint_due(self) -> bool:
        return self._inner.checkpoint_due

    async def checkpoint(self) -> Staged:
        return self._named(await self._inner.checkpoint())

    async def seal(self) -> Staged | None:
        sealed = await self._inner.seal()
        return None if sealed is None else self._named(sealed)

    async def complete(self) -> Staged:
        return self._named(await self._inner.complete())
