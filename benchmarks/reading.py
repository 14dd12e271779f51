"""GET and HEAD of one path, again and again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.clients import LoadFailed
from benchmarks.content import Blob
from benchmarks.load import Load, Pace, ask, get, get_anew, head
from benchmarks.servers import DockerRegistry, Server


def _accept_anything(_: bytes) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Read:
    path: str
    valid: Callable[[bytes], bool] = field(default=_accept_anything)
    """Looks at the body of a first answer."""
    method: str = "GET"
    headers: str = ""
    status: int = 200
    peer_path: str = ""
    """Where the peer has the same, if elsewhere."""
    anew: bool = False
    """Over a new connection for each."""
    threads: int = 1
    """Of the load generator: more where one can't read as fast as servers send."""

    def load(self, server: Server, pace: Pace) -> Load:
        if self.method == "HEAD":
            return head(server, self._path(server), pace, self.headers)
        if self.anew:
            return get_anew(server, self._path(server), pace, self.headers)
        return get(server, self._path(server), pace, self.headers, threads=self.threads)

    def check(self, server: Server) -> None:
        if not self.valid(ask(server, self.method, self._path(server), self.headers, status=self.status)):
            raise LoadFailed(f"{server.name}: {self.path} answers with something else than was put there")

    def _path(self, server: Server) -> str:
        return (isinstance(server, DockerRegistry) and self.peer_path) or self.path


def is_blob(blob: Blob) -> Callable[[bytes], bool]:
    return lambda body: body == b"".join(blob.buffers)


def has(key: str, wanted: str | None) -> Callable[[bytes], bool]:
    """A list with this in it, or with anything. Not the exact page: the peer knows none of tags, and has all on it."""

    def found(body: bytes) -> bool:
        listed = json.loads(body)[key]
        return bool(listed) if wanted is None else wanted in listed

    return found
