"""A registry that only speaks: no digests, no rows, no files, no logins. It forgets all but what came last.

What a client takes with it is the least that it can take with any registry on the same machine, so it tells how much
of a ratio is to be had at all. `python -m benchmarks.bare_registry PORT`.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections import OrderedDict
from io import BufferedReader
from typing import Final
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from benchmarks.content import MANIFEST_TYPE, digest_of

_KEPT_BYTES: Final = 256 << 20
# Clients try TLS first, and have to see at once that there is none.
_TLS_HANDSHAKE: Final = b"\x16"
_HEADS: Final = {200: "200 OK", 201: "201 Created", 202: "202 Accepted", 404: "404 Not Found"}


class Content:
    """By path, so that an upload's address is content's too until it has another."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes | bytearray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str) -> bytes | bytearray | None:
        return self._kept.get(path)

    def put(self, path: str, body: bytes | bytearray) -> None:
        with self._lock:
            self._kept[path] = body
            self._kept.move_to_end(path)
            while sum(map(len, self._kept.values())) > _KEPT_BYTES:
                self._kept.popitem(last=False)

    def move(self, path: str, to: str) -> None:
        with self._lock:
            self._kept[to] = self._kept.pop(path)


class Client(threading.Thread):
    """A connection's requests, one after another."""

    def __init__(self, connection: socket.socket, content: Content) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._content = content

    def run(self) -> None:
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._connection, self._connection.makefile("rb") as reader:
            while reader.peek(1)[:1] != _TLS_HANDSHAKE and (line := reader.readline()):
                method, target, _ = line.decode().split()
                self._answer(method, target, _read_body(reader))

    def _answer(self, method: str, target: str, body: bytearray) -> None:
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        repository, _, reference = path.rpartition("/")
        if method == "POST":
            self._send(202, location=f"{path}{uuid4()}")
        elif method == "PATCH":
            self._content.put(path, body)
            self._send(202, location=path)
        elif method == "PUT" and "digest" in query:
            blob = f"{repository.removesuffix('/uploads')}/{query['digest'][0]}"
            self._content.move(path, blob)
            self._send(201, location=blob)
        elif method == "PUT":
            for name in (reference, digest_of(bytes(body))):
                self._content.put(f"{repository}/{name}", body)
            self._send(201, location=path)
        else:
            found = b"{}" if path == "/v2/" else self._content.get(path)
            self._send(404 if found is None else 200, found or b"", is_head=method == "HEAD")

    def _send(self, status: int, body: bytes | bytearray = b"", *, location: str = "", is_head: bool = False) -> None:
        head = f"HTTP/1.1 {_HEADS[status]}\r\nContent-Type: {MANIFEST_TYPE}\r\nContent-Length: {len(body)}\r\n"
        head += f"Location: {location}\r\n" if location else ""
        self._connection.sendall(head.encode() + b"\r\n")
        if not is_head:
            self._connection.sendall(body)


def _read_body(reader: BufferedReader) -> bytearray:
    """What comes behind a request's first line, without its headers."""
    headers = {}
    while line := reader.readline().strip():
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    if headers.get(b"transfer-encoding") != b"chunked":
        return _read_exactly(reader, int(headers.get(b"content-length", b"0")))
    body = bytearray()
    while length := int(reader.readline(), 16):
        body += _read_exactly(reader, length)
        reader.readline()
    reader.readline()
    return body


def _read_exactly(reader: BufferedReader, length: int) -> bytearray:
    body = bytearray(length)
    view, done = memoryview(body), 0
    while done < length and (read := reader.readinto(view[done:])):
        done += read
    return body


def main() -> None:
    content = Content()
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        while True:
            connection, _ = listener.accept()
            Client(connection, content).start()


if __name__ == "__main__":
    main()
