"""How much of a large body has to have come before the event loop is woken for it.

Clients send 32 KiB at a time, and the loop would wake for each: a layer of 4 MiB came in 66 pieces, now in 16. That is
an eighth of all CPU of an image's push (docs/performance.md, "The web server").
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

_MOST: Final = 256 * 1024
_LEAST: Final = 128 * 1024  # less comes whole, or nearly
_PATIENCE_S: Final = 0.1


class LowWater:
    """The mark of a connection's socket (``SO_RCVLOWAT``, socket(7)). A slow client's bytes aren't kept waiting."""

    __slots__ = ("_is_large", "_loop", "_mark", "_socket", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        self._loop = loop
        self._socket = client
        self._mark = 1
        self._is_large = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, left: int) -> None:
        """A body of which so many bytes haven't come."""
        self._is_large = left >= _LEAST
        self.wait(left)

    def wait(self, left: int) -> None:
        """So many haven't come yet; with 0 the next request is waited for, whatever its length."""
        if not self._is_large:
            return
        self._stop_timer()
        self._set(max(1, min(left, _MOST)))
        if left:
            self._timer = self._loop.call_later(_PATIENCE_S, self._set, 1)
        else:
            self._is_large = False

    def end(self) -> None:
        """The connection is over."""
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, mark: int) -> None:
        if mark != self._mark:
            self._mark = mark
            with contextlib.suppress(OSError):  # it has gone, and nobody has told us yet
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)
