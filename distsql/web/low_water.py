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

    __slots__ = ("_loop", "_mark", "_timer", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.BaseTransport) -> None:
        self._loop = loop
        self._transport = transport
        self._mark = 1
        self._timer: asyncio.TimerHandle | None = None  # of the last piece of a large body, also when it has fired

    def begin(self, left: int) -> None:
        """A body of which so many bytes haven't come."""
        if left >= _LEAST:
            self._expect(left)

    def wait(self, left: int) -> None:
        """So many haven't come yet; with 0 the next request is waited for, whatever its length."""
        if self._timer is not None:
            self.end()
            if left:
                self._expect(left)
            else:
                self._set(1)

    def end(self) -> None:
        """Nothing more of it will come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expect(self, left: int) -> None:
        self._set(min(left, _MOST))
        self._timer = self._loop.call_later(_PATIENCE_S, self._set, 1)

    def _set(self, mark: int) -> None:
        if mark != self._mark:
            self._mark = mark
            with contextlib.suppress(OSError):  # it has gone, and nobody has told us yet
                client = self._transport.get_extra_info("socket")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)
