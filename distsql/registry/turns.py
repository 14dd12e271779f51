"""What one server does for all of them: the others leave it alone meanwhile, and until it is due again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Final

from distsql.errors import UnavailableError
from distsql.sql import turns
from distsql.sql.database import Database

_log: Final = logging.getLogger("distsql")
_LEASE: Final = timedelta(minutes=1)  # of a server that was killed at it: then it is somebody else's turn
_RENEWED_S: Final = 15.0


class Turns:
    """Of one thing, among all servers and their workers."""

    __slots__ = ("_database", "_name")

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name

    async def take(self, work: Callable[[], Awaitable[object]], *, rest: Callable[[float], timedelta]) -> bool:
        """Does the work if it is due and nobody is at it, and tells whether it did.

        It is due again after the ``rest``, which is told how many seconds the work took; when it failed, a minute
        after that.
        """
        if not await self._database.transact(partial(turns.claim_turn, name=self._name, period=_LEASE)):
            return False
        started = time.monotonic()
        renewing = asyncio.create_task(self._renew())
        try:
            await work()
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing
        await self._keep(rest(time.monotonic() - started))
        return True

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEWED_S)
            try:
                await self._keep(_LEASE)
            except UnavailableError as error:
                _log.warning("%s may be begun by another server as well: %s", self._name, error)

    async def _keep(self, period: timedelta) -> None:
        await self._database.transact(partial(turns.keep_turn, name=self._name, period=period))


def every(interval: timedelta) -> Callable[[float], timedelta]:
    """The rest of what is due once in an interval; a little less, for those who ask once in an interval."""
    return lambda took: max(timedelta(0), interval * 0.9 - timedelta(seconds=took))
