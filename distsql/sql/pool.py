"""Connections of one process: a free list, not a framework. A checkout costs microseconds and no task switch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.pq import TransactionStatus

from distsql.errors import CatalogueUnavailableError

_IDLE: Final = TransactionStatus.IDLE


class PooledConnection:
    """A connection in autocommit mode with its one cursor, which is used again and again (a new one costs 20 us)."""

    __slots__ = ("connection", "cursor")

    def __init__(self, connection: AsyncConnection[tuple[Any, ...]]) -> None:
        self.connection = connection
        self.cursor: AsyncCursor[tuple[Any, ...]] = connection.cursor(binary=True)

    @property
    def usable(self) -> bool:
        """Open, and outside of any transaction."""
        return not self.connection.closed and self.connection.info.transaction_status is _IDLE


class Pool:
    """At most ``size`` connections, the one used last first, opened when they are needed."""

    def __init__(self, connect: Callable[[], Awaitable[PooledConnection]], *, size: int, wait_s: float) -> None:
        self._connect = connect
        self._free: list[PooledConnection] = []
        self._slots = asyncio.Semaphore(size)
        self._size = size
        self._wait_s = wait_s

    async def acquire(self) -> PooledConnection:
        """A connection for one transaction; `CatalogueUnavailableError` when none comes free or none can be made."""
        await self._take_slot()
        try:
            while self._free:
                pooled = self._free.pop()
                if pooled.usable:
                    return pooled
                await pooled.connection.close()
            return await self._connect()
        except psycopg.Error as error:
            self._slots.release()
            raise CatalogueUnavailableError(f"The catalogue's PostgreSQL doesn't answer: {error}") from error
        except BaseException:
            self._slots.release()
            raise

    async def _take_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()  # never waits
            return
        try:
            async with asyncio.timeout(self._wait_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise CatalogueUnavailableError(
                f"All {self._size} database connections of this process were busy for {self._wait_s:g} seconds; "
                "raise DISTSQL_POOL_SIZE if this is usual"
            ) from error

    async def release(self, pooled: PooledConnection) -> None:
        """Takes the connection back; one that is broken or in a transaction is closed instead."""
        try:
            if pooled.usable:
                self._free.append(pooled)
            else:
                await pooled.connection.close()
        finally:
            self._slots.release()

    async def forget_idle(self) -> None:
        """Closes what is free: after one connection was found dead, the others most likely are too."""
        free, self._free = self._free, []
        for pooled in free:
            await pooled.connection.close()
