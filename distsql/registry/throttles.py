"""Work that leaves room for others: so many bytes a second, and no more."""

from __future__ import annotations

import asyncio
import time


class Throttle:
    """Lets bytes through at a rate, a second's worth at once at most; None is as fast as they come."""

    __slots__ = ("_free_at", "_rate")

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._free_at = time.monotonic()

    async def take(self, length: int) -> None:
        """Waits until so many bytes may be read after those before."""
        if self._rate is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 1) + length / self._rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
