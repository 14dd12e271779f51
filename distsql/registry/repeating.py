"""Work that a server does by itself, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from distsql.errors import DistsqlError

_log: Final = logging.getLogger("distsql")


class Repeated:
    """Runs the work every so many seconds, until it is closed. What goes wrong is logged; the next turn tries again.

    The first turn comes as late as the others, unless ``first`` says how many seconds after the beginning.
    """

    __slots__ = ("_closed", "_first", "_name", "_seconds", "_task", "_work")

    def __init__(
        self, name: str, work: Callable[[], Awaitable[object]], *, seconds: float, first: float | None = None
    ) -> None:
        self._name = name
        self._work = work
        self._seconds = seconds
        self._first = seconds if first is None else first
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def begin(self) -> None:
        """From now on."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stops it, wherever it is: what was begun is rolled back."""
        # Cancelling alone is not enough: `asyncio.wait_for` of Python 3.11 loses a cancellation that comes together
        # with its result, and psycopg waits by it.
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        wait = self._first
        while not self._closed:
            await asyncio.sleep(wait)
            wait = self._seconds
            try:
                await self._work()
            except DistsqlError as error:
                _log.warning("%s: %s", self._name, error)
            except Exception:  # noqa: BLE001  # logged just below; the next turn may do better
                _log.exception("%s failed", self._name)
