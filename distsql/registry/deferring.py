"""Work that is put off: many small things are written at once, and no request waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


class Deferred:
    """Runs the work some seconds after it was first wanted, and once more at the end.

    The work tells whether it has to be run again: what it is for couldn't be done.
    """

    __slots__ = ("_closed", "_hurried", "_seconds", "_task", "_wanted", "_work")

    def __init__(self, work: Callable[[], Awaitable[bool]], *, seconds: float) -> None:
        self._work = work
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None
        self._hurried = asyncio.Event()
        self._wanted = self._closed = False

    def want(self) -> None:
        """The work is run later, unless it is going to be already; once more, if it is being run just now."""
        self._wanted = True
        if self._task is None or self._task.done():
            self._hurried.clear()
            self._task = asyncio.create_task(self._run_later())

    def hurry(self) -> None:
        """What is wanted is run now: there is much of it."""
        self._hurried.set()

    async def close(self) -> None:
        """Runs it now; what is being written just now is finished first."""
        self._closed = True
        self.hurry()
        if self._task is not None:
            await self._task
        await self._work()

    async def _run_later(self) -> None:
        while self._wanted and not self._closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._hurried.wait()
            self._hurried.clear()
            self._wanted = False
            if await self._work():
                self._wanted = True
