"""A client's connection: HTTP/1.1 (RFC 9112), read by llhttp, the parser of Node.js.

Requests are answered one after another, in the order in which they came. What a client can make this hold is bounded:
the head of a request, its headers, what waits of a body, and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import unquote_to_bytes

import httptools

from distsql.web.exchanges import Exchange
from distsql.web.files import Transfer, send
from distsql.web.low_water import LowWater

if TYPE_CHECKING:
    from distsql.web.server import Server

_log: Final = logging.getLogger("distsql")
_MOST_HEAD_BYTES: Final = 64 * 1024
_MOST_HEADERS: Final = 100
# Who was refused while it still sends hears the answer only if nothing closes the connection under it for so long.
_LINGER_S: Final = 2
_MOST_IGNORED: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """With clients, in seconds. With their bodies the application has some."""

    head: float = 30
    """From its first byte to its last."""
    idle: float = 650
    """Longer than proxies and load balancers keep theirs: whoever closes first may meet a request on its way."""
    stalled: float = 300
    """Without taking anything of an answer."""


class Connection(asyncio.BufferedProtocol):
    """One client. ``server`` is what it shares with the others of this process."""

    def __init__(self, server: Server) -> None:
        self.lost = False
        """Nothing can be sent any more."""
        self.is_closing = False
        """No request is taken any more."""
        self.is_stalled = False
        """The client takes nothing just now."""
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._newest: Exchange | None = None  # whose body comes
        self._body_left = 0  # of a body of known length, which needn't be parsed
        self._is_in_head = False
        self._unread = 0  # bytes since anything was understood
        self._is_reading = True
        self._is_deaf = False
        self._ignored = 0
        self._flowing: asyncio.Future[None] | None = None
        self._patience = server.patience
        self._wait(self._patience.head)

    # -- what the event loop calls ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It begins."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.add(self)
        self._low_water = LowWater(self._server.loop, transport)
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self._is_near = bool(peer and own and peer[0] == own[0])
        self._scope = {
            **self._server.scope,
            "client": peer and (peer[0], peer[1]),
            "server": own and (own[0], own[1]),
        }

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to put what comes: one place for all, as it is looked at before the next one is asked for."""
        del sizehint
        if self._body_left:
            return self._server.large[: self._body_left]
        return self._server.small

    def buffer_updated(self, nbytes: int) -> None:
        """Something came."""
        if self._is_deaf:
            self._ignored += nbytes
            if self._ignored > _MOST_IGNORED:
                self._transport.abort()
            return
        if self._body_left and self._newest is not None:
            self._body_left -= nbytes
            self._newest.feed(bytes(self._server.large[:nbytes]))
            self._low_water.wait(self._body_left)
            if not self._body_left:
                self.on_message_complete()
        else:
            self._parse(self._server.small[:nbytes])
        self._hold()

    def _hold(self) -> None:
        """Reads no more for now, when there is enough to do."""
        if not self._is_deaf and (self._waiting or (self._newest is not None and self._newest.is_full)):
            self._is_reading = False
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more. It may have left, or still want to have what it asked for."""
        self._stop_listening()
        if self._exchange is None:
            return False
        self._exchange.lose()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over. Who works for it goes on: a commit may be on its way."""
        del exc
        self.lost = self.is_closing = True
        self._low_water.end()
        self._server.remove(self)
        self._waiting.clear()
        for exchange in (self._exchange, self._newest):
            if exchange is not None:
                exchange.lose()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The client is slower than its answer."""
        self.is_stalled = True
        self._wait(self._patience.stalled)

    def resume_writing(self) -> None:
        """It took everything."""
        self.is_stalled = False
        if self._flowing is not None and not self._flowing.done():
            self._flowing.set_result(None)

    # -- what the parser calls ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_in_head = True
        if self._exchange is None:
            self._wait(self._patience.head)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._length = 0
        self._awaits_continue = False

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; behind a body in chunks one that nobody asked for."""
        if self._newest is not None:
            return
        name = name.lower()
        if name == b"content-length":
            self._length = int(value)
        elif name == b"expect":
            self._awaits_continue = value.lower() == b"100-continue"
        self._headers.append((name, value))
        if len(self._headers) > _MOST_HEADERS:
            raise OverflowError

    def on_headers_complete(self) -> None:
        """Its head has come: the application may look at it."""
        parser = self._parser
        version = parser.get_http_version()
        self._is_in_head = False
        self._unread = 0
        url = self._url if self._url.startswith(b"/") else _path_of(self._url)
        path, _, query = url.partition(b"?")
        exchange = Exchange(
            self,
            {
                **self._scope,
                "http_version": version,
                "method": parser.get_method().decode(),
                "raw_path": path,
                "path": (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8", "replace"),
                "query_string": query,
                "headers": self._headers,
            },
            keep_alive=parser.should_keep_alive(),
            awaits_continue=self._awaits_continue and version == "1.1",
        )
        self._newest = exchange
        if self._exchange is None:
            self._begin(exchange)
        else:
            self._waiting.append(exchange)

    def on_body(self, piece: bytes) -> None:
        """More of the body, out of its chunks where it has some."""
        self._unread = 0
        if self._newest is not None:
            self._length -= len(piece)
            self._newest.feed(piece)

    def on_message_complete(self) -> None:
        """All of the request has come."""
        self._unread = 0
        if self._newest is not None:
            self._newest.end_body()
            self._newest = None

    # -- requests -----------------------------------------------------------------------------------------------------

    def _parse(self, data: memoryview) -> None:
        self._unread += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # to something that isn't spoken here; what was asked is answered
            self._stop_listening()
        except (httptools.HttpParserError, httptools.HttpParserCallbackError) as error:
            is_large = isinstance(error.__context__, OverflowError)
            self._refuse(b"431 Request Header Fields Too Large" if is_large else b"400 Bad Request")
        else:
            if self._unread > _MOST_HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large")
            elif self._newest is not None and self._length > 0:
                self._skip_parser()

    def _skip_parser(self) -> None:
        """The rest of a body whose length is known needs no parser, and the next request can have a new one."""
        self._body_left = self._length
        self._low_water.begin(self._body_left)
        self._parser = httptools.HttpRequestParser(self)

    def _begin(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._server.start(self._run(exchange))

    async def _run(self, exchange: Exchange) -> None:
        try:
            await self._server.application(exchange.scope, exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001  # the application logs its own; this is the way to say it to the client
            if not self.lost and not isinstance(error, ConnectionError):
                _log.error("An answer could not be sent: %s", error, exc_info=error)
        finally:
            self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        self._exchange = None
        if self.lost:
            return
        if not exchange.started:
            self._refuse(b"503 Service Unavailable" if self.is_closing else b"500 Internal Server Error")
        elif not exchange.ended:
            self._transport.abort()  # the only way left to say that this isn't the whole content
        elif not exchange.keep_alive or self.is_at_end:
            self._close(linger=not exchange.body_ended)
        elif self._waiting:
            self._begin(self._waiting.popleft())
            self.read_on()
        else:
            self._wait(self._patience.head if self._is_in_head else self._patience.idle)

    def _refuse(self, status: bytes) -> None:
        """What follows can't be understood. Who still waits for an answer gets it, if its request had come whole."""
        self._stop_listening()
        if self._exchange is None:
            text = status[4:] + b"\n"
            length = b"content-length: %d" % len(text)
            head = (b"HTTP/1.1 " + status, b"content-type: text/plain", length, self.date(), b"connection: close")
            self.write(b"\r\n".join((*head, b"", text)))
            self._close(linger=True)

    def _stop_listening(self) -> None:
        self._is_deaf = self.is_closing = True
        if self._newest is not None:
            self._newest.lose()

    def _close(self, *, linger: bool) -> None:
        self.is_closing = self._is_deaf = True
        if linger and self._transport.can_write_eof():
            self._wait(_LINGER_S)
            self._waiting.clear()
            self.read_on()
            with contextlib.suppress(OSError):  # it has gone, and nobody has told us yet
                self._transport.write_eof()
        else:
            self._wait(self._patience.stalled)
            self._transport.close()

    # -- for exchanges and the server ---------------------------------------------------------------------------------

    @property
    def is_at_end(self) -> bool:
        """Nothing follows the answer that is given now."""
        return self.is_closing and not self._waiting

    def write(self, data: bytes) -> None:
        """Sends it, as soon as the event loop comes to it."""
        if not self.lost:
            self._transport.write(data)

    def date(self) -> bytes:
        """The header."""
        return self._server.date()

    def read_on(self) -> None:
        """There is room for more."""
        if not (self._is_reading or self._waiting or self.lost):
            self._is_reading = True
            self._transport.resume_reading()

    async def flow(self) -> None:
        """Waits until the client has taken what it was sent."""
        while self.is_stalled and not self.lost:
            self._flowing = self._server.loop.create_future()
            await self._flowing

    async def send_file(self, transfer: Transfer) -> None:
        """Sends a file, behind all that was written before. `OSError` when it can't."""
        self._transport.set_write_buffer_limits(0)
        await self.flow()
        if self.lost:
            raise ConnectionResetError("The client has gone")
        self._transport.set_write_buffer_limits()
        # A number of its own, as the event loop lets nobody else wait for that of a transport.
        sending = os.dup(self._transport.get_extra_info("socket").fileno())
        await send(
            transfer,
            sending,
            threads=self._server.threads,
            is_near=self._is_near,
            patience_s=self._patience.stalled,
        )

    def stop(self) -> None:
        """No more requests, as the server ends."""
        self.is_closing = True
        if self._exchange is None:
            self._transport.close()

    def check(self, now: float) -> None:
        """Ends it when the client let too much time pass."""
        if now > self._until and (self._exchange is None or self.is_stalled):
            self._transport.abort()

    def _wait(self, seconds: float) -> None:
        self._until = self._server.time() + seconds


def _path_of(target: bytes) -> bytes:
    """Of a target that isn't a path: of a URL as proxies are asked for, of ``*`` or of an authority (RFC 9112, 3.2)."""
    try:
        parsed = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        return b"/"
    return (parsed.path or b"/") + (b"?" + parsed.query if parsed.query else b"")
