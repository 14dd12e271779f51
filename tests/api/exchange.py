"""One request as a web server hands it to the application, with bodies that no HTTP client would send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from distsql.api.application import Application
from distsql.values import ASGIMessage

Body = AsyncIterator[ASGIMessage]


@dataclass
class Answer:
    """What the application sent; ``received`` counts how often it asked for more of the body."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    path: str | None = None
    received: int = 0

    @property
    def codes(self) -> list[str]:
        return [error["code"] for error in json.loads(self.body)["errors"]]


async def whole(*pieces: bytes) -> Body:
    """A body that arrives to its end."""
    for piece in pieces:
        yield {"type": "http.request", "body": piece, "more_body": True}
    yield {"type": "http.request", "body": b"", "more_body": False}


async def cut(*pieces: bytes) -> Body:
    """A body whose client goes away."""
    for piece in pieces:
        yield {"type": "http.request", "body": piece, "more_body": True}
    yield {"type": "http.disconnect"}


async def truncated(*pieces: bytes) -> Body:
    """A body that a careless server passes on as if it had ended: only its Content-Length tells."""
    for piece in pieces[:-1]:
        yield {"type": "http.request", "body": piece, "more_body": True}
    yield {"type": "http.request", "body": pieces[-1], "more_body": False}


async def held(*pieces: bytes, until: Awaitable[object], then: Iterable[bytes] = ()) -> Body:
    """A body that pauses in the middle until something has happened."""
    for piece in pieces:
        yield {"type": "http.request", "body": piece, "more_body": True}
    await until
    for piece in then:
        yield {"type": "http.request", "body": piece, "more_body": True}
    yield {"type": "http.request", "body": b"", "more_body": False}


async def silent(*pieces: bytes) -> Body:
    """A body that never goes on."""
    for piece in pieces:
        yield {"type": "http.request", "body": piece, "more_body": True}
    await asyncio.get_running_loop().create_future()


_NOTHING: Final[Mapping[str, str]] = {}

Exchange = Callable[..., Coroutine[Any, Any, Answer]]


async def exchange(
    application: Application,
    method: str,
    url: str | bytes,
    *,
    body: Body | None = None,
    headers: Mapping[str, str] = _NOTHING,
    extensions: Iterable[str] = (),
    path: str | None = None,
    leaves: bool = False,
) -> Answer:
    """Sends the request; the target goes out as it stands. With a ``path``, that is all that the server tells of it.

    A client that ``leaves`` takes the head of the answer, and nothing behind it.
    """
    target = url if isinstance(url, bytes) else url.encode()
    raw_path, _, query = target.partition(b"?")
    answer = Answer()
    body = whole() if body is None else body

    async def receive() -> ASGIMessage:
        answer.received += 1
        return await anext(body, {"type": "http.disconnect"})

    async def send(message: ASGIMessage) -> None:
        if message["type"] == "http.response.start":
            assert answer.status == 0
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
        elif leaves:
            raise ConnectionResetError("The client has gone")
        elif message["type"] == "http.response.pathsend":
            answer.path = message["path"]
        else:
            answer.body += message.get("body", b"")

    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": unquote(raw_path, errors="replace") if path is None else path,
        "raw_path": raw_path or None,
        "query_string": query,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("192.0.2.1", 40000),
        "extensions": {name: {} for name in extensions},
    }
    await application(scope, receive, send)
    return answer
