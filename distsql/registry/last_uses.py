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
from distsql.sql.database import Database
from distsql.sql.transactions import Transaction

FLUSH_S: Final = 5.0
_AGAIN: Final = timedelta(minutes=5)
"""What is used all the time is written so often: of thousands it would be a write for nearly each request else."""
_LOOK_S: Final = 60.0


class LastUses:
    """Of one process. What it has not written when it is killed is lost: it is a hint for whoever tidies up."""

    __slots__ = ("_database", "_deferred", "_due", "_later", "_looked_at", "_written")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due: dict[tuple[int, int], Standing] = {}
        self._later: dict[tuple[int, int], Standing] = {}
        """Of those that were written lately; looked at now and then, for they may be thousands."""
        self._looked_at = 0.0
        self._written: dict[tuple[int, int], float] = {}
        self._deferred = Deferred(self.flush, seconds=FLUSH_S)

    def add(self, standing: Standing, now: float) -> None:
        """Remembers that the account is used now."""
        if not standing.used_at:
            key = standing.account.key  # of those of one account only the last is used any more
            (self._later if key in self._written else self._due)[key] = standing
            self._deferred.want()
        standing.used_at = now

    def know(self, account: tuple[int, int], last_used_at: datetime | None) -> None:
        """What was written of it before, by whichever process."""
        if last_used_at is not None:
            self._written[account] = last_used_at.timestamp()

    async def close(self) -> None:
        """Writes what is left."""
        await self._deferred.close()
        await self._write(_taken(self._later))

    async def flush(self) -> bool:
        """Writes what is remembered. Whether some is left, which was written within the last minutes."""
        self._look(time.time())
        due, self._due = self._due, {}
        taken = _taken(due)
        await self._write(taken)
        self._written.update(taken)
        return bool(self._later)

    def _look(self, now: float) -> None:
        """Finds those whose turn has come again."""
        if now < self._looked_at + _LOOK_S:
            return
        self._looked_at, recent = now, now - _AGAIN.total_seconds()
        self._written = {account: at for account, at in self._written.items() if at > recent}
        self._due |= {account: each for account, each in self._later.items() if account not in self._written}
        self._later = {account: each for account, each in self._later.items() if account in self._written}

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
