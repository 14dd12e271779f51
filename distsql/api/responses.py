"""Answers, assembled without a framework."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, quote_plus

import msgspec

from distsql.values import ASGIReceive, ASGIScope, ASGISend

Header = tuple[bytes, bytes]

_WITHOUT_BODY: Final = frozenset({204, 304})
_MAX_WARNING: Final = 1024
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~/-]*\Z", re.ASCII).match

JSON: Final[Header] = (b"content-type", b"application/json")
API_VERSION: Final[Header] = (b"docker-distribution-api-version", b"registry/2.0")
# Content comes from strangers: no browser may take it for a page.
INERT: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
)


@dataclass(slots=True, eq=False)  # not frozen: that takes each request a microsecond
class Response:
    """A small answer that is in memory. On HEAD the body is left out and its length told."""

    status: int
    headers: Sequence[Header] = ()
    body: bytes = b""
    length: int | None = None

    @property
    def content_length(self) -> int:
        """What is told: 0 where nothing is."""
        if self.status in _WITHOUT_BODY:
            return 0
        return len(self.body) if self.length is None else self.length

    async def __call__(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Sends it."""
        del receive
        headers = [API_VERSION, *self.headers]
        if self.status not in _WITHOUT_BODY:
            headers.append((b"content-length", b"%d" % self.content_length))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.body})


def json_response(status: int, value: object, headers: Iterable[Header] = ()) -> Response:
    """A JSON document."""
    # "replace": what a client wrote may come back in a message, and JSON can spell what UTF-8 can't.
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return Response(status, (JSON, *headers), body)


def listing_response(value: object, headers: Iterable[Header] = ()) -> Response:
    """A JSON document of names that the catalogue has, which is to say text without surprises."""
    return Response(200, (JSON, *headers), msgspec.json.encode(value))


def header(name: bytes, value: object) -> Header:
    """A header whose value is text of the registry's own making: names, digests, numbers."""
    return name, str(value).encode("latin-1", "replace")


def content_length(headers: Sequence[Header]) -> int:
    """Of an answer's body; 0 where it doesn't say."""
    for name, value in reversed(headers):  # it comes last
        if name == b"content-length":
            return int(value)
    return 0


def warning(text: str) -> Header:
    """A ``Warning`` for people, of the registry's own making (distribution specification, "Warnings").

    All warnings of an answer stay within 4096 bytes together: no answer has more than three.
    """
    quoted = text[:_MAX_WARNING].replace("\\", "\\\\").replace('"', '\\"')
    return header(b"warning", f'299 - "{quoted}"')


def next_link(path: str, parameters: Iterable[tuple[str, object]]) -> Header:
    """The ``Link`` to the page that follows (RFC 5988), relative to this server."""
    query = "&".join([f"{name}={_quoted(str(value))}" for name, value in parameters])
    return header(b"link", f'<{path if _PLAIN(path) else quote(path)}?{query}>; rel="next"')


def _quoted(text: str) -> str:
    # Names and digests hardly have anything to quote, and `urlencode` takes ten times as long to find that out.
    return text if "/" not in text and _PLAIN(text) else quote_plus(text)
