"""One process that serves: it takes connections until it is told to end, and finishes what runs."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

from distsql import cores
from distsql.web.connections import Connection, Patience
from distsql.web.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from distsql.values import ASGIApplication, ASGIMessage

_log: Final = logging.getLogger("distsql")
_SMALL: Final = 64 * 1024
# Of a body at once: with 256 KiB uploads take 7 % more CPU, with 1 MiB twice the memory.
_LARGE: Final = 512 * 1024
_FILE_THREADS: Final = 8
_CHECK_S: Final = 5
_LOOK_S: Final = 0.02
_OTHERS_S: Final = 0.002
_BRIEF_S: Final = 0.05
_REST_S: Final = 0.5  # where there is no room for another connection


class StartError(Exception):
    """The application could not start. It has said why."""


class Server:
    """The event loop's side of a worker. ``listener`` may be listened to by others as well."""

    def __init__(
        self,
        application: ASGIApplication,
        listener: socket.socket,
        *,
        shares: Shares,
        stop_s: float,
        patience: Patience | None = None,
    ) -> None:
        self.application = application
        self.patience = patience or Patience()
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.small, self.large = memoryview(bytearray(_SMALL)), memoryview(bytearray(_LARGE))
        self.threads = ThreadPoolExecutor(_FILE_THREADS, "files", initializer=cores.leave)
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "scheme": "http",
            "root_path": "",
            # Of a part of a file too: `offset` and `count`, as in "http.response.zerocopysend".
            "extensions": {"http.response.pathsend": {"parts": True}},
        }
        self._listener = listener
        self._shares = shares
        self._stop_s = stop_s
        self._second, self._date = 0, b""
        self._told = asyncio.Event()
        self._one_ended = -math.inf

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT. `StartError` when the application can't."""
        self.loop = asyncio.get_running_loop()
        self.time = self.loop.time
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.stop)
        life = _Life(self.application)
        await life.start()
        self._shares.tell(0)
        self._listen()
        checking = self.loop.create_task(self._check_again())
        await self._told.wait()
        self.loop.remove_reader(self._listener)
        self._listener.close()
        await self._finish()
        checking.cancel()
        await life.stop()
        self.threads.shutdown(wait=False)

    def stop(self) -> None:
        """Has `run` come to its end."""
        self._told.set()

    def date(self) -> bytes:
        """The header, made once a second."""
        now = int(time.time())
        if now != self._second:
            self._second, self._date = now, b"date: " + formatdate(now, usegmt=True).encode()
        return self._date

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """What has to be finished before the end."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def add(self, connection: Connection) -> None:
        """It has begun."""
        self.connections.add(connection)
        self._shares.tell(len(self.connections))
        if self._told.is_set():  # it was taken just before
            connection.stop()

    def remove(self, connection: Connection) -> None:
        """It is over."""
        self._one_ended = self.time()
        self.connections.discard(connection)
        self._shares.tell(len(self.connections))

    def _listen(self) -> None:
        self.loop.add_reader(self._listener, self._accept_share)

    def _accept_share(self) -> None:
        """Takes a connection, unless others have fewer: then they have a moment to take it.

        Not while connections end: to wait for equal shares of what lasts for a request (of skopeo's and podman's) would
        take longer than the requests.
        """
        if self._shares.is_due or self.time() - self._one_ended < _BRIEF_S:
            self._accept()
        else:
            self._rest(_OTHERS_S)

    def _rest(self, seconds: float) -> None:
        self.loop.remove_reader(self._listener)
        self.loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._listener.fileno() >= 0:
            self._listen()
            self._accept()

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another worker was first, or the client has gone
            return
        except OSError as error:
            _log.error("No connection could be taken: %s", error)
            self._rest(_REST_S)
            return
        accepted.settimeout(0)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.start(self._connect(accepted))

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: Connection(self), accepted)
        except OSError:
            accepted.close()

    async def _check_again(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_S)
            self.check()

    def check(self) -> None:
        """Ends connections whose clients let too much time pass."""
        now = self.time()
        for connection in list(self.connections):
            connection.check(now)

    async def _finish(self) -> None:
        """Lets requests be answered, those that wait behind them too, and answers be taken."""
        for connection in list(self.connections):
            connection.stop()
        deadline = self.time() + self._stop_s
        while (self.tasks or self.connections) and self.time() < deadline:  # noqa: ASYNC110  # they come and go
            await asyncio.sleep(_LOOK_S)
        if self.tasks:
            _log.warning("%d requests were cut off after DISTSQL_STOP_TIMEOUT", len(self.tasks))
            for task in self.tasks:
                task.cancel()
            await asyncio.wait(self.tasks, timeout=1)


class _Life:
    """The application's, as ASGI tells it (lifespan specification 2.0)."""

    def __init__(self, application: ASGIApplication) -> None:
        self._application = application
        self._told: asyncio.Queue[ASGIMessage] = asyncio.Queue()
        self._said: asyncio.Queue[ASGIMessage] = asyncio.Queue()

    async def start(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        self._task = asyncio.create_task(self._live(scope))
        self._told.put_nowait({"type": "lifespan.startup"})
        if (await self._said.get())["type"] != "lifespan.startup.complete":
            raise StartError

    async def stop(self) -> None:
        self._told.put_nowait({"type": "lifespan.shutdown"})
        await self._said.get()

    async def _live(self, scope: dict[str, Any]) -> None:
        try:
            await self._application(scope, self._told.get, self._said.put)
        except Exception as error:  # noqa: BLE001  # whoever waits is told that there is none
            _log.exception("The application failed")
            await self._said.put({"type": "failed", "message": str(error)})
