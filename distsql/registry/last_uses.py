"""When accounts were last used, written down for many at once: no request waits for it, or writes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from distsql.errors import UnavailableError
from distsql.registry.deferring import Deferred
from distsql.registry.standings import Standing
from distsql.sql import accounts
from distsql.sql.database import Database, Transaction

FLUSH_S: Final = 5.0
_AGAIN: Final = timedelta(minutes=5)
"""What is used all the time is written so often: of thousands it would be a write for nearly each request else."""


class LastUses:
    """Of one process. What it has not written when it is killed is lost: it is a hint for whoever tidies up."""

    __slots__ = ("_database", "_deferred", "_used", "_written")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._used: dict[tuple[int, int], Standing] = {}
        self._written: dict[tuple[int, int], float] = {}
        self._deferred = Deferred(self.flush, seconds=FLUSH_S)

    def add(self, standing: Standing, now: float) -> None:
        """Remembers that the account is used now."""
        if not standing.used_at:
            self._used[standing.account.key] = standing  # of those of one account only the last is used any more
            self._deferred.want()
        standing.used_at = now

    def know(self, account: tuple[int, int], last_used_at: datetime | None) -> None:
        """What was written of it before, by whichever process."""
        if last_used_at is not None:
            self._written[account] = last_used_at.timestamp()

    async def close(self) -> None:
        """Writes what is left."""
        await self._deferred.close()
        await self._write(_taken(self._used))

    async def flush(self) -> bool:
        """Writes what is remembered. Whether some is left, which was written within the last minutes."""
        recent = time.time() - _AGAIN.total_seconds()
        self._written = {account: at for account, at in self._written.items() if at > recent}
        due = {account: each for account, each in self._used.items() if account not in self._written}
        self._used = {account: each for account, each in self._used.items() if account not in due}
        taken = _taken(due)
        await self._write(taken)
        self._written.update(taken)
        return bool(self._used)

    async def _write(self, used: dict[tuple[int, int], float]) -> None:
        async def write(tx: Transaction) -> None:
            accounts.set_last_used(tx, {account: datetime.fromtimestamp(at, UTC) for account, at in used.items()})

        if used:
            with contextlib.suppress(UnavailableError):
                await self._database.transact(write)


def _taken(used: Mapping[tuple[int, int], Standing]) -> dict[tuple[int, int], float]:
    """When each was last used, which is about to be written."""
    taken = {account: each.used_at for account, each in used.items()}
    for each in used.values():
        each.used_at = 0.0
    return taken
