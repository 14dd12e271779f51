"""A request: what handlers read of it. Everything is parsed and bounded here, at the edge."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from distsql.contract import Namespace, Repository
from distsql.errors import DistsqlError, ManifestTooLargeError, PageInvalidError, SizeInvalidError
from distsql.oci.digest import Digest
from distsql.registry.authorities import Account
from distsql.values import ANONYMOUS, UNLIMITED, ActorKind, ASGIApplication, ASGIReceive, ASGIScope, Authority, Caller

MAX_PAGE: Final = 10_000
_DIGITS: Final = re.compile(r"[0-9]{1,40}\Z", re.ASCII)
_CONTENT_RANGE: Final = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?\Z", re.ASCII)
_MAX_FIELDS: Final = 500
_REPLACEMENT: Final = "\ufffd"
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
_READS: Final = frozenset({"GET", "HEAD"})


class BodyTimeoutError(DistsqlError):
    """The client sent nothing for so long that it is taken for gone. What it sent to an upload is kept."""


class QueryTooLongError(DistsqlError):
    """More parameters than any request of the protocol has."""


class ParameterInvalidError(DistsqlError):
    """A parameter, condition or document of the extension that can't be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may take: bytes of a manifest, and seconds between two pieces of a body."""

    manifest_bytes: int = 8 * 1024**2
    body_timeout_s: float = 60


class Pull(NamedTuple):
    """What a GET or HEAD found: a manifest, by its tag or by digest, or (without a digest) a blob of this length."""

    tag: str | None = None
    digest: Digest | None = None
    length: int = 0


class Request:
    """One HTTP request. ``namespace`` acts on behalf of its caller."""

    # What most requests begin and end with is the class's: to set it for each takes as long as to read a name.
    received = 0
    body_begun = False
    body_ended = False
    disconnected = False
    timed_out = False
    authority: Authority = UNLIMITED
    tenant = ""
    """Whose names the request's host makes of those in it; empty: they are full names."""
    actor_kind: ActorKind = "anonymous"
    account_id: int | None = None
    token_id: str | None = None
    logged_in: Account | None = None  # whose secret was shown, if it was just now
    refusal: str | None = None  # why, if it was refused
    # What the request turned out to be, for those who count: a handler's name, the repository, and the answer.
    route = "none"
    repository: str | None = None
    arguments: Sequence[str] = ()
    pull: Pull | None = None
    status = 0
    sent_length = 0

    def __init__(
        self, scope: ASGIScope, receive: ASGIReceive, namespace: Namespace, limits: Limits, ids: Iterator[str]
    ) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        """By lower-case name; of a name that comes more than once the last."""
        self.limits = limits
        self.receive = receive
        self.warnings: list[str] = []
        self._namespace = namespace
        self._ids = ids
        # Whoever mounts the application and knows its users says so in the scope. No client can.
        self.actor: str = scope.get("distsql.actor", ANONYMOUS)
        if self.actor != ANONYMOUS:
            self.actor_kind = "account"

    @cached_property
    def request_id(self) -> str:
        """As the client calls it, or a new one: of those ``ids`` that were given."""
        given = self.headers.get(b"x-request-id")
        return given.decode() if given is not None and _REQUEST_ID.match(given) else next(self._ids)

    @cached_property
    def _shown(self) -> dict[str, str]:
        return {}

    def header(self, name: bytes) -> str | None:
        """A header's text, or None."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1").strip()

    @cached_property
    def query(self) -> Mapping[str, list[str]]:
        """The query's values by name. What no text of the catalogue can hold (bad UTF-8, NUL) reads U+FFFD."""
        values: dict[str, list[str]] = {}
        text: str = self.scope["query_string"].decode("latin-1")
        if text.count("&") >= _MAX_FIELDS:
            raise QueryTooLongError(f"The query has more than {_MAX_FIELDS} parameters")
        if "%" in text or "+" in text:
            fields = parse_qsl(text, keep_blank_values=True)
        else:  # as pages' are, in a fifth of the time
            fields = [(name, value) for name, _, value in (field.partition("=") for field in text.split("&") if field)]
        for name, value in fields:
            values.setdefault(name, []).append(value.replace("\0", _REPLACEMENT))
        return values

    def parameter(self, name: str) -> str | None:
        """The query's first value of this name, or None."""
        values = self.query.get(name)
        return values[0] if values else None

    @property
    def namespace(self) -> Namespace:
        """The registry, as this request's caller sees it."""
        if self.method in _READS:  # the rest is for the audit of changes
            return self._namespace.acting_as(
                Caller(
                    self.actor,
                    authority=self.authority,
                    account_id=self.account_id,
                    token_id=self.token_id,
                    warn=self.warnings.append,
                )
            )
        return self._namespace.acting_as(
            Caller(
                actor=self.actor,
                client_address=self.client_address,
                user_agent=printable(self.header(b"user-agent") or ""),
                request_id=self.request_id,
                authority=self.authority,
                account_id=self.account_id,
                token_id=self.token_id,
                warn=self.warnings.append,
            )
        )

    def repository_of(self, name: str) -> Repository:
        """The repository that the client means by this name."""
        return self.namespace.repository(self.full_name(name))

    def full_name(self, name: str) -> str:
        """The full name of what the client calls so."""
        if not self.tenant:
            return name
        full = f"{self.tenant}/{name}"
        self._shown[full] = name
        return full

    def shown_name(self, full: str) -> str:
        """A full name as the client would write it here."""
        return full.removeprefix(f"{self.tenant}/") if self.tenant else full

    async def shown_names(self, fulls: AsyncIterator[str]) -> AsyncIterator[str]:
        """Those of the host's tenant, as the client writes them. They come in order, from behind the tenant's own."""
        prefix = f"{self.tenant}/" if self.tenant else ""
        async for full in fulls:
            if not full.startswith(prefix):
                return
            yield full.removeprefix(prefix)

    def shown(self, text: str) -> str:
        """A message with the request's names as the client writes them."""
        for full in sorted(self._shown, key=len, reverse=True):
            text = text.replace(full, self._shown[full])
        return text

    @property
    def client_address(self) -> str:
        """The peer's address, empty when there is none."""
        client = self.scope.get("client")
        return client[0] if client else ""

    def page_size(self, default: int) -> int:
        """The query's ``n``, capped; `PageInvalidError` unless it is a whole number of zero or more."""
        text = self.parameter("n")
        if text is None:
            return default
        if not (text.isascii() and text.isdigit()):
            raise PageInvalidError(f"n={text[:40]!r} is no page size: give a whole number, 0 or more")
        return min(int(text.lstrip("0")[:20] or "0"), MAX_PAGE)

    @property
    def has_body(self) -> bool:
        """Whether the client sends one, or says that it will."""
        headers = self.headers
        return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers

    @property
    def content_length(self) -> int | None:
        """What Content-Length says, or None without one (chunked transfer)."""
        text = self.header(b"content-length")
        return int(text) if text is not None and _DIGITS.match(text) else None

    def content_range(self) -> tuple[int, int] | None:
        """First and last byte of a chunk (inclusive) as written, or None when the request doesn't say.

        Raises `SizeInvalidError` when it can't be read.
        """
        text = self.header(b"content-range")
        if text is None:
            return None
        match = _CONTENT_RANGE.match(text)
        if not match:
            raise SizeInvalidError(f"Content-Range is {text[:80]!r}: write it as FIRST-LAST, both bytes inclusive")
        return int(match[1]), int(match[2])

    # -- the body -----------------------------------------------------------------------------------------------------

    async def stream(self, length: int | None = None) -> AsyncIterator[bytes]:
        """The body in pieces, which has to be of this ``length`` where one is given.

        Raises `SizeInvalidError` when it isn't, at the latest where the body ends; also for a body that ends before its
        Content-Length. `BodyTimeoutError` when the client stops sending.
        """
        announced = self.content_length
        expected = announced if length is None else length
        if announced not in {None, expected}:
            raise SizeInvalidError(f"Content-Range says {expected} bytes, Content-Length {announced}")
        received = 0
        while not self.body_ended:
            piece = await self._piece()
            received += len(piece)
            if expected is not None and received > expected:
                raise SizeInvalidError(f"The body goes on behind the {expected} bytes that were announced")
            if piece:
                yield piece
        if self.timed_out:
            raise BodyTimeoutError(f"Nothing came for {self.limits.body_timeout_s:g} s after {received} bytes")
        if self.disconnected or expected not in {None, received}:
            raise SizeInvalidError(f"The body ended after {received} bytes, before its announced end")

    async def _piece(self) -> bytes:
        self.body_begun = True
        try:
            async with asyncio.timeout(self.limits.body_timeout_s):
                message = await self.receive()
        except TimeoutError:
            self.body_ended = self.timed_out = True
            return b""
        if message["type"] != "http.request":
            self.body_ended = self.disconnected = True
            return b""
        self.body_ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        self.received += len(body)
        return body

    async def manifest(self) -> bytes:
        """The whole body; `ManifestTooLargeError` as soon as it is known to be over the limit."""
        limit = self.limits.manifest_bytes
        too_large = ManifestTooLargeError(f"The body is over the limit of {limit} bytes (DISTSQL_MANIFEST_LIMIT)")
        if self.content_length is not None and self.content_length > limit:
            raise too_large
        pieces = bytearray()
        async for piece in self.stream():
            pieces += piece
            if len(pieces) > limit:
                raise too_large
        return bytes(pieces)

    async def drain(self, limit: int) -> None:
        """Reads and forgets the rest of the body, up to a limit: a client that still sends can't hear the answer.

        Bounded in time as well. A client that waits for ``100 Continue`` has not begun to send, and hears it at once.
        """
        waits = b"expect" in self.headers and not self.body_begun
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.body_timeout_s):
                while not (self.body_ended or waits) and limit > 0:
                    limit -= len(await self._piece()) or 1


Handler = Callable[..., Awaitable[ASGIApplication]]
Methods = Mapping[str, Handler]


def printable(text: str, limit: int = 256) -> str:
    """Text of a client that is fit for a log line and a row: bounded, without control characters."""
    if len(text) <= limit and text.isprintable():
        return text
    return "".join(character if character.isprintable() else "?" for character in text[:limit])
