"""Connections of one process: a free list, not a framework. A checkout costs microseconds and no task switch."""

from __future__ import annotations

import asyncio
import itertools
import random
import select
import time
from typing import Final

import psycopg
from psycopg.pq import Format, TransactionStatus

from distsql.errors import CatalogueUnavailableError
from distsql.sql.connections import Connect, Connection, Habits
from distsql.sql.exchanges import Exchange, Sending
from distsql.sql.tenant_setting import SettingStatements, Who

_IN_TRANSACTION: Final = {TransactionStatus.INTRANS, TransactionStatus.INERROR}
_ROLLBACK: Final = Sending("rollback", b"rollback")
_ROLLBACK_WAIT_S: Final = 5
_TEXT_OID: Final = 25
_WARM_S: Final = 10


class PooledConnection:
    """A connection in autocommit mode, for one transaction after the other."""

    __slots__ = ("_connection", "_poll", "_settings", "exchange", "habits", "number", "used_at")

    def __init__(self, connection: Connection, habits: Habits, number: int) -> None:
        self.number = number
        """Tells it from the others that are open."""
        self.used_at = time.monotonic()
        self._connection = connection
        self.habits = habits
        self.exchange = Exchange(connection, habits)
        self._settings = SettingStatements(habits)
        self._poll = select.poll()
        self._poll.register(connection.pgconn.socket, select.POLLIN)

    def set_tenant(self, who: Who) -> Sending:
        """The statement that makes a transaction the tenant's."""
        name, sql, value = self._settings.pick(who)
        return Sending(name, sql.encode(), (value.encode(),), (_TEXT_OID,), (Format.TEXT,))

    @property
    def idle(self) -> bool:
        """Open, and outside of any transaction."""
        return self._connection.pgconn.transaction_status == TransactionStatus.IDLE

    @property
    def is_warm(self) -> bool:
        """Whether it was fine just now. In a longer pause a firewall may have forgotten it, without a word."""
        return self.idle and time.monotonic() - self.used_at < _WARM_S

    @property
    def silent(self) -> bool:
        """Whether the server sent nothing since it was last asked. What it says unasked is most often goodbye."""
        return not self._poll.poll(0)

    async def roll_back(self) -> None:
        """Ends what is left of a transaction, or closes the connection when the server doesn't do that at once."""
        if self._connection.pgconn.transaction_status not in _IN_TRANSACTION:
            await self.exchange.close()
            return
        try:
            async with asyncio.timeout(_ROLLBACK_WAIT_S):
                await self.exchange.run([_ROLLBACK])
        except (psycopg.Error, TimeoutError):
            await self.exchange.close()


class Pool:
    """At most ``size`` connections, the one used last first, opened when they are needed."""

    def __init__(self, connect: Connect, *, size: int, wait_s: float) -> None:
        self._connect = connect
        self._free: list[PooledConnection] = []
        self._slots = asyncio.Semaphore(size)
        self._size = size
        self._wait_s = wait_s
        self._closed = False
        self._busy = 0
        self._numbers = itertools.count(random.randrange(1000))  # noqa: S311  # no secret

    @property
    def counts(self) -> dict[str, int]:
        """Connections that are in use, that are free, and that there may be."""
        return {"busy": self._busy, "free": len(self._free), "most": self._size}

    async def acquire(self) -> PooledConnection:
        """A connection for one transaction; `CatalogueUnavailableError` when none comes free or none can be made."""
        await self._take_slot()
        self._busy += 1
        try:
            while self._free:
                pooled = self._free.pop()
                if pooled.idle and pooled.silent:
                    return pooled
                await pooled.exchange.close()
            return PooledConnection(*await self._connect(), next(self._numbers))
        except psycopg.Error as error:
            self._leave()
            raise CatalogueUnavailableError(f"The catalogue's PostgreSQL doesn't answer: {error}") from error
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        self._busy -= 1
        self._slots.release()

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
        """Takes the connection back, outside of any transaction; one that can't be brought there is closed instead."""
        try:
            if not pooled.idle:
                await pooled.roll_back()
        finally:
            try:
                if pooled.idle and not self._closed:
                    pooled.used_at = time.monotonic()
                    self._free.append(pooled)
                else:
                    await pooled.exchange.close()
            finally:
                self._leave()

    async def forget_idle(self) -> None:
        """Closes what is free: after one connection was found dead, the others most likely are too."""
        free, self._free = self._free, []
        for pooled in free:
            await pooled.exchange.close()

    async def close(self) -> None:
        """Closes what is free now, and what is in use when it comes back."""
        self._closed = True
        await self.forget_idle()
