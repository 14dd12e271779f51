"""Many HTTP clients in one thread, as cheap as Python allows: uploads, and everything that `wrk` and `ab` can't do.

The load shares the machine with the server that it measures, so a client here is a generator, its *script*: it yields
the buffers of a request and is sent the response. One selector drives all of them over plain sockets; buffers go out
as they are, bodies of megabytes are never copied, and read ones are counted and dropped.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

Buffers = Sequence[bytes | memoryview]
HEAD_END: Final = b"\r\n\r\n"
PIECE: Final = 1 << 20
KEPT_BODY: Final = 1 << 20
PATIENCE: Final = 60.0


class LoadFailed(Exception):
    """A request wasn't answered as it has to be. A benchmark of errors measures nothing."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    head: bytes
    body: bytes
    """Empty when it was longer than KEPT_BODY; `length` tells."""
    length: int

    def header(self, name: str) -> str | None:
        return find_header(self.head, name)


Script = Generator[Buffers, Response, None]


def request(method: str, path: str, *, headers: str = "", body: Buffers = ()) -> Buffers:
    """The buffers of one request. `headers` are lines that end with CRLF."""
    length = sum(map(len, body))
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n{headers}\r\n"
    return [head.encode(), *body]


def find_header(head: bytes, name: str) -> str | None:
    start = head.lower().find(f"\r\n{name.lower()}:".encode())
    if start < 0:
        return None
    start += len(name) + 3
    return head[start : head.index(b"\r\n", start)].decode().strip()


def expect(response: Response, status: int, what: str) -> None:
    if response.status != status:
        raise LoadFailed(
            f"{what}: {response.status} instead of {status}: {response.body[:500].decode(errors='replace')}"
        )


def run_scripts(port: int, scripts: Iterable[Script], *, headers: str = "") -> None:
    """Run all scripts at once, a connection each, to their ends. Each request has these `headers` as well."""
    with selectors.DefaultSelector() as selector:
        clients = [_Client(port, script, selector, headers.encode()) for script in scripts]
        try:
            running = sum(client.advance(None) for client in clients)
            while running:
                # Twice: a process that was stopped for longer wakes up without having looked.
                ready = selector.select(PATIENCE) or selector.select(PATIENCE)
                if not ready:
                    raise LoadFailed(f"no answer within {PATIENCE:.0f} s")
                running -= sum(not key.data.wake(mask) for key, mask in ready)
        finally:
            for client in clients:
                client.close()


class _Client:
    """One connection and its script. Its methods tell whether there is more to do."""

    def __init__(self, port: int, script: Script, selector: selectors.BaseSelector, headers: bytes) -> None:
        self._script = script
        self._headers = headers
        self._selector = selector
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(0)
        self._selector.register(self._socket, selectors.EVENT_READ, self)
        self._unsent: list[memoryview] = []
        self._head = self._body = b""
        self._length_known = False
        self._length = self._missing = 0

    def advance(self, response: Response | None) -> bool:
        """Hand over a response (None at first), and send the request that the script makes of it."""
        try:
            buffers = next(self._script) if response is None else self._script.send(response)
        except StopIteration:
            self._selector.unregister(self._socket)
            return False
        self._unsent = [memoryview(buffer) for buffer in self._with_headers(buffers) if buffer]
        self._send()
        if self._unsent:
            self._selector.modify(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
        return True

    def wake(self, mask: int) -> bool:
        if mask & selectors.EVENT_WRITE:
            self._send()
            if not self._unsent:
                self._selector.modify(self._socket, selectors.EVENT_READ, self)
        return self._receive() if mask & selectors.EVENT_READ else True

    def close(self) -> None:
        self._script.close()
        self._socket.close()

    def _with_headers(self, buffers: Buffers) -> Buffers:
        if not self._headers:
            return buffers
        head, *body = buffers
        return [bytes(head)[:-2] + self._headers + b"\r\n", *body]

    def _send(self) -> None:
        """What the kernel takes now: the head goes with the body's first piece, in one call."""
        pieces = [buffer[:PIECE] for buffer in self._unsent[:2]]
        if len(self._unsent[0]) > PIECE:
            del pieces[1:]
        try:
            sent = self._socket.sendmsg(pieces)
        except BlockingIOError:
            return
        except OSError as error:
            raise LoadFailed(f"the connection broke in the middle of a request: {error}") from error
        while sent:
            taken = min(sent, len(self._unsent[0]))
            self._unsent[0] = self._unsent[0][taken:]
            sent -= taken
            if not self._unsent[0]:
                del self._unsent[0]

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(PIECE)
        except BlockingIOError:
            return True
        except OSError as error:
            raise LoadFailed(f"the connection broke before the answer: {error}") from error
        if not data:
            raise LoadFailed("the server closed the connection before its answer was complete")
        if not self._length_known:
            self._read_head(data)
        else:
            self._read_body(data)
        if not self._length_known or self._missing:
            return True
        return self._complete()

    def _read_head(self, data: bytes) -> None:
        self._head += data
        head, end, body = self._head.partition(HEAD_END)
        if not end:
            return
        self._head = head + b"\r\n"
        length = find_header(self._head, "content-length")
        if length is None and not self._head.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304")):
            raise LoadFailed(f"an answer without Content-Length: {self._head.decode(errors='replace')}")
        self._length_known = True
        self._length = self._missing = int(length or 0)
        self._read_body(body)

    def _read_body(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._missing < 0:
            raise LoadFailed("an answer is longer than its Content-Length")
        if self._length <= KEPT_BODY:
            self._body += data

    def _complete(self) -> bool:
        response = Response(int(self._head[9:12]), self._head, self._body, self._length)
        if self._unsent:
            raise LoadFailed(f"answered before the request was sent: {response.status} {response.body[:500]!r}")
        self._forget_response()
        return self.advance(response)

    def _forget_response(self) -> None:
        self._head = self._body = b""
        self._length_known = False
        self._length = self._missing = 0
