"""When accounts were last used, written down for many at once: no request waits for it, or writes."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Final

from distsql.errors import UnavailableError
from distsql.registry.deferring import Deferred
from distsql.sql import accounts
from distsql.sql.database import Database, Transaction

FLUSH_S: Final = 5.0


class LastUses:
    """Of one process. What it has not written when it is killed is lost: it is a hint for whoever tidies up."""

    __slots__ = ("_database", "_deferred", "_used")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._used: dict[tuple[int, int], datetime] = {}
        self._deferred = Deferred(self.flush, seconds=FLUSH_S)

    def add(self, account: tuple[int, int], now: datetime) -> None:
        """Remembers that the account, by its tenant's id and its own, was used."""
        self._used[account] = now
        self._deferred.want()

    async def close(self) -> None:
        """Writes what is left."""
        await self._deferred.close()

    async def flush(self) -> bool:
        """Writes what is remembered."""
        used, self._used = self._used, {}

        async def write(tx: Transaction) -> None:
            accounts.set_last_used(tx, used)

        if used:
            with contextlib.suppress(UnavailableError):
                await self._database.transact(write)
        return False
