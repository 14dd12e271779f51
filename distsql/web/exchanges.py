"""A request and its answer: what the ASGI application sees of a connection (ASGI 3.0, HTTP specification 2.4)."""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from distsql.web.files import Transfer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from distsql.values import ASGIMessage, ASGIScope
    from distsql.web.connections import Connection

_JOINED: Final = 16 * 1024
_STATUS_LINES: Final = {each.value: f"HTTP/1.1 {each.value} {each.phrase}".encode() for each in HTTPStatus}
_BODILESS: Final = frozenset({204, 304})
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"


class AnswerError(Exception):
    """The application's answer is none: not all of it, more than it announced, or text that no header may have."""


class Exchange:
    """One request. `receive` and `send` are for the application, the others for the connection."""

    __slots__ = (
        "_announced", "_arrival", "_awaits_continue", "_body_told", "_chunked", "_connection", "_head",
        "_pieces", "_silent", "body_ended", "ended", "gone", "keep_alive", "scope", "started",
    )  # fmt: skip

    def __init__(self, connection: Connection, scope: ASGIScope, *, keep_alive: bool, awaits_continue: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.body_ended = False
        """All of the request has come."""
        self.gone = False
        """No more of it will."""
        self.started = False
        """The head of the answer is on its way."""
        self.ended = False
        """All of the answer is."""
        self._connection = connection
        self._awaits_continue = awaits_continue
        self._pieces: deque[bytes] = deque()
        self._body_told = False
        self._arrival: asyncio.Future[None] | None = None
        self._head: list[bytes] | None = None
        self._announced: int | None = None
        self._chunked = False
        self._silent = scope["method"] == "HEAD"

    # -- the request --------------------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether nothing more is read until the application asks: pieces become larger meanwhile, and so fewer."""
        return bool(self._pieces)

    def feed(self, piece: bytes) -> None:
        """More of the body."""
        self._pieces.append(piece)
        self._wake()

    def end_body(self) -> None:
        """All of it has come."""
        self.body_ended = True
        self._wake()

    def lose(self) -> None:
        """The client has gone, or what it sends can't be understood any more."""
        self.gone = True
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def receive(self) -> ASGIMessage:
        """The next piece of the body; after its end, waits until nobody waits for the answer any more."""
        if self._awaits_continue and not self.body_ended and not self.started:
            self._connection.write(_CONTINUE)
        self._awaits_continue = False
        if not self._pieces:
            self._connection.read_on()
        while not (self._pieces or self.gone or self.ended or (self.body_ended and not self._body_told)):
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        if self._pieces:
            piece = self._pieces.popleft()
            self._body_told = self.body_ended and not self._pieces
            return {"type": "http.request", "body": piece, "more_body": not self._body_told}
        if self.body_ended and not self._body_told:
            self._body_told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"}

    # -- the answer ---------------------------------------------------------------------------------------------------

    async def send(self, message: ASGIMessage) -> None:
        """The head, the body in pieces, or a file in its place.

        `ConnectionResetError` when the client has gone, `AnswerError` when this is no answer.
        """
        kind = message["type"]
        if kind == "http.response.start":
            self._open(message["status"], message["headers"])
            return
        if self._connection.lost:
            raise ConnectionResetError("The client has gone")
        if kind == "http.response.body":
            self._write(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.pathsend":
            await self._send_file(message)
        if self._connection.is_stalled:
            await self._connection.flow()

    def _open(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self._head is not None or self.started:
            raise AnswerError("A second answer")
        lines = [_STATUS_LINES[status]]
        announced: int | None = None
        for name, value in headers:
            lines.append(name + b": " + value)
            if name == b"content-length":
                announced = int(value)
        lines.append(self._connection.date())
        if status in _BODILESS:
            self._silent = True
        elif announced is None and not self._silent:
            if self.scope["http_version"] == "1.1":
                self._chunked = True
                lines.append(b"transfer-encoding: chunked")
            else:
                self.keep_alive = False
        self._announced = announced
        self._head = lines

    def _take_head(self) -> bytes:
        lines = self._head
        if lines is None:
            raise AnswerError("A body without a head")
        self._head = None
        if not self.body_ended or self._connection.is_at_end:
            self.keep_alive = False
        if not self.keep_alive:
            lines.append(b"connection: close")
        elif self.scope["http_version"] != "1.1":
            lines.append(b"connection: keep-alive")
        head = b"\r\n".join(lines)
        if head.count(b"\n") >= len(lines) or head.count(b"\r") >= len(lines):
            raise AnswerError("A header has a line of its own")  # and would be two
        self.started = True
        return head + b"\r\n\r\n"

    def _write(self, body: bytes, *, more: bool) -> None:
        data = b"" if self.started else self._take_head()
        if not self._silent:
            if self._announced is not None:
                self._announced -= len(body)
                if self._announced < 0 or (self._announced and not more):
                    raise AnswerError("The body isn't of the length that was announced")
            elif self._chunked:
                body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else _LAST_CHUNK)
            if len(body) <= _JOINED:
                data += body
            else:
                self._connection.write(data)
                data = body
        if data:
            self._connection.write(data)
        if not more:
            self._end()

    async def _send_file(self, message: ASGIMessage) -> None:
        head = self._take_head()
        start = message.get("offset", 0)
        length = message.get("count", self._announced)
        if length is None or length != self._announced:
            raise AnswerError("The file isn't of the length that was announced")
        if self._silent:
            self._connection.write(head)
        else:
            await self._connection.send_file(Transfer(message["path"], head, start=start, length=length))
        self._end()

    def _end(self) -> None:
        self.ended = True
        self._wake()
