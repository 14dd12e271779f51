"""When accounts were last used, written down for many at once: no request waits for it, or writes."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import Final

from distsql.errors import UnavailableError
from distsql.sql import accounts
from distsql.sql.database import Database, Transaction

FLUSH_S: Final = 5.0


class LastUses:
    """Of one process. What it has not written when it is killed is lost: it is a hint for whoever tidies up."""

    __slots__ = ("_database", "_flushing", "_used")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._used: dict[tuple[int, int], datetime] = {}
        self._flushing: asyncio.Task[None] | None = None

    def add(self, account: tuple[int, int], now: datetime) -> None:
        """Remembers that the account, by its tenant's id and its own, was used."""
        self._used[account] = now
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_later())

    async def close(self) -> None:
        """Writes what is left."""
        if self._flushing is not None:
            self._flushing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flushing
        await self.flush()

    async def _flush_later(self) -> None:
        await asyncio.sleep(FLUSH_S)
        await self.flush()

    async def flush(self) -> None:
        """Writes what is remembered."""
        used, self._used = self._used, {}

        async def write(tx: Transaction) -> None:
            accounts.set_last_used(tx, used)

        if used:
            with contextlib.suppress(UnavailableError):
                await self._database.transact(write)
