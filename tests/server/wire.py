"""HTTP by hand: what no well-behaved client library sends, and what comes back, byte for byte."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The specification's code of the first error."""
        document: dict[str, Any] = json.loads(self.body)
        return str(document["errors"][0]["code"])

    @property
    def offset(self) -> int:
        """Bytes that an upload has, from its Range; one of no bytes says 0-0 too, so don't ask it."""
        return int(self.headers["range"].removeprefix("0-")) + 1


class Wire:
    """One connection."""

    def __init__(self, port: int, *, timeout: float = 20, buffer: int = 0) -> None:
        self._socket = socket.socket()
        if buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(("127.0.0.1", port))
        except OSError:
            self._socket.close()
            raise
        self._received = bytearray()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def request(
        self, method: str, path: str, headers: Iterable[str] = (), body: bytes | None = None, version: str = "1.1"
    ) -> None:
        """A head and, if given, a body of its length."""
        length = () if body is None else (f"Content-Length: {len(body)}",)
        lines = (f"{method} {path} HTTP/{version}", "Host: registry.test", *headers, *length, "", "")
        self.send("\r\n".join(lines).encode() + (body or b""))

    def ask(self, method: str, path: str, headers: Iterable[str] = (), body: bytes | None = None) -> Answer:
        self.request(method, path, headers, body)
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        """The next final answer."""
        while True:
            status, headers = self.head()
            if status >= 200:
                break
        if method == "HEAD" or status in {204, 304}:
            return Answer(status, headers, b"")
        if "content-length" in headers:
            return Answer(status, headers, self.take(int(headers["content-length"])))
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, b"".join(self._chunks()))
        return Answer(status, headers, self.rest())

    def head(self) -> tuple[int, dict[str, str]]:
        """The next status line and headers, also of a 100."""
        while b"\r\n\r\n" not in self._received:
            self._fill()
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def take(self, length: int) -> bytes:
        while len(self._received) < length:
            self._fill()
        taken = bytes(self._received[:length])
        del self._received[:length]
        return taken

    def rest(self) -> bytes:
        """Everything until the server closes the connection."""
        while self._fill(closing=True):
            pass
        return self.take(len(self._received))

    def is_closed(self, *, seconds: float = 10) -> bool:
        """Whether the server closes the connection without saying anything more."""
        self._socket.settimeout(seconds)
        try:
            return not self._received and not self._socket.recv(1)
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def send_until_refused(self, piece: bytes, *, times: int) -> int:
        """How often it could be sent before the server cut the connection."""
        for sent in range(times):
            try:
                self.send(piece)
            except (ConnectionResetError, BrokenPipeError):
                return sent
        return times

    def trickle(self, pieces: Iterable[bytes], *, pause: float) -> None:
        for piece in pieces:
            self.send(piece)
            time.sleep(pause)

    def _chunks(self) -> Iterable[bytes]:
        while True:
            while b"\r\n" not in self._received:
                self._fill()
            data = self.take(int(self._until(b"\r\n"), 16) + 2)[:-2]
            if not data:
                return
            yield data

    def _until(self, end: bytes) -> bytes:
        taken = self.take(self._received.index(end))
        del self._received[: len(end)]
        return taken

    def _fill(self, *, closing: bool = False) -> bool:
        data = self._socket.recv(1 << 16)
        if not data and not closing:
            raise ConnectionError(f"the server closed the connection after {bytes(self._received)!r}")
        self._received += data
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
