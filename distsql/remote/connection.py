"""HTTP to one registry, on behalf of one caller: requests, answers, pages. Memory is bounded whatever comes back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx

from distsql.errors import DigestInvalidError, RegistryError, UnavailableError, UnsupportedError
from distsql.oci.names import name_bound
from distsql.remote.errors import error_of
from distsql.values import ANONYMOUS, Caller

PAGE: Final = 1000
# No manifest and no page is larger; blobs are streamed.
_MOST_BYTES: Final = 32 * 1024**2
_NOT_FOUND: Final = 404
_NOTHING: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is in memory."""

    url: httpx.URL
    headers: httpx.Headers
    body: bytes

    def json(self) -> dict[str, Any]:
        """The JSON object that it is, else `RegistryError`."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise RegistryError(f"{self.url} is no JSON object: this is not the registry that it seemed to be")
        return value

    @contextlib.contextmanager
    def understood(self) -> Iterator[dict[str, Any]]:
        """The JSON object, for reading it: what isn't there, or is of another kind, is `RegistryError`."""
        try:
            yield self.json()
        except (LookupError, AttributeError, TypeError, ValueError, DigestInvalidError) as error:
            raise RegistryError(f"{self.url} is not what a distsql answers there: {error!r}") from error

    def names(self, key: str) -> list[str]:
        """The names in the object's list of this key; some registries write null for none."""
        names = self.json().get(key) or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RegistryError(f"{self.url} has no list of names as {key!r}")
        return names


class Connection:
    """Requests to a registry. An answer that refuses is raised, as the error of `distsql.errors` that it means."""

    __slots__ = ("_client", "_extended", "_headers")

    def __init__(self, client: httpx.AsyncClient, caller: Caller, *, extended: bool | None = None) -> None:
        self._client = client
        self._extended = extended
        told = {
            "user-agent": caller.user_agent or "distsql",
            "x-request-id": caller.request_id,
            # For a gate that knows the callers and says so to the application behind it; nobody else believes it.
            "distsql-actor": "" if caller.actor == ANONYMOUS else quote(caller.actor),
        }
        self._headers = {name: value for name, value in told.items() if value}

    def acting_as(self, caller: Caller) -> Connection:
        """The same on behalf of another caller."""
        return Connection(self._client, caller, extended=self._extended)

    async def extended(self) -> bool:
        """Whether the registry is a distsql."""
        if self._extended is None:
            try:
                self._extended = (await self.get("/v2/_distsql/")).json().get("name") == "_distsql"
            except RegistryError:
                self._extended = False
        return self._extended

    async def require_extension(self) -> None:
        """Raises `UnsupportedError` unless the registry is a distsql."""
        if not await self.extended():
            raise UnsupportedError(f"{self._client.base_url} is no distsql: the OCI API alone doesn't offer this")

    # -- requests -----------------------------------------------------------------------------------------------------

    async def get(self, path: str, *, params: Mapping[str, str] | None = None, accept: str = "*/*") -> Answer:
        """The answer to GET."""
        return await self.request("GET", path, params=params, headers={"accept": accept})

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | httpx.QueryParams | None = None,
        headers: Mapping[str, str] = _NOTHING,
        content: bytes | AsyncIterable[bytes] | None = None,
    ) -> Answer:
        """The whole answer."""
        with self.answering():
            answer = await self._send(method, path, params=params, headers=headers, content=content)
            try:
                body = await _whole(answer)
            finally:
                await answer.aclose()
        if answer.is_error:
            raise error_of(answer.status_code, answer.headers, body, asked=f"{method} {answer.url}")
        return Answer(answer.url, answer.headers, body)

    async def open(self, path: str, *, method: str = "GET", headers: Mapping[str, str] = _NOTHING) -> httpx.Response:
        """An answer whose body is still to be read, as it comes. Whoever opens it closes it."""
        with self.answering():
            answer = await self._send(method, path, headers={"accept-encoding": "identity", **headers})
            if answer.is_error:
                try:
                    body = await _whole(answer)
                finally:
                    await answer.aclose()
                raise error_of(answer.status_code, answer.headers, body, asked=f"{method} {answer.url}")
        return answer

    async def head(self, path: str) -> httpx.Headers | None:
        """What HEAD tells of what is there; None when nothing is."""
        with self.answering():
            answer = await self._send("HEAD", path, headers={"accept-encoding": "identity"})
            await answer.aclose()
        if answer.status_code == _NOT_FOUND:
            return None
        if answer.is_error:
            raise error_of(answer.status_code, answer.headers, b"", asked=f"HEAD {answer.url}")
        return answer.headers

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | httpx.QueryParams | None = None,
        headers: Mapping[str, str] = _NOTHING,
        content: bytes | AsyncIterable[bytes] | None = None,
    ) -> httpx.Response:
        request = self._client.build_request(
            method, path, params=params, headers={**self._headers, **headers}, content=content
        )
        return await self._client.send(request, stream=True, follow_redirects=method in {"GET", "HEAD"})

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """What the network does wrong is `UnavailableError`."""
        try:
            yield
        except httpx.TransportError as error:
            raise UnavailableError(f"{self._client.base_url} doesn't answer: {type(error).__name__} {error}") from error

    # -- pages --------------------------------------------------------------------------------------------------------

    async def pages(self, path: str, params: Mapping[str, str], *, limit: int | None = None) -> AsyncIterator[Answer]:
        """A listing's pages, which lead from one to the next by ``Link`` ("Listing Tags")."""
        size = PAGE if limit is None else max(1, min(limit, PAGE))
        answer = await self.get(path, params={**params, "n": str(size)})
        while True:
            yield answer
            following = httpx.Response(200, headers=answer.headers).links.get("next", {}).get("url")
            if not following:
                return
            answer = await self.get(str(answer.url.join(following)))

    async def names(self, path: str, key: str, *, after: str = "", limit: int | None = None) -> AsyncIterator[str]:
        """The names of a listing, behind ``after``, at most ``limit``."""
        bound, left = name_bound(after), limit
        async for page in self.pages(path, {"last": bound} if bound else {}, limit=limit):
            for name in page.names(key)[:left]:
                yield name
            left = None if left is None else left - len(page.names(key))
            if left is not None and left <= 0:
                return


async def _whole(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > _MOST_BYTES:
            raise RegistryError(f"{answer.url} is over {_MOST_BYTES} bytes: no manifest and no page is")
    return bytes(body)


@dataclass(frozen=True, slots=True)
class Address:
    """One repository of the registry, by its name as it was written."""

    connection: Connection
    name: str

    def path(self, *segments: str) -> str:
        """A resource of the OCI API."""
        return "/".join(["/v2", self.name, *(quote(segment, safe=":") for segment in segments)])

    async def extension(self, *segments: str) -> str:
        """A resource that only distsql has; `UnsupportedError` elsewhere."""
        await self.connection.require_extension()
        return self.path("_distsql", *segments)

    async def check(self) -> None:
        """Raises `NameUnknownError` when there is no such repository."""
        await self.connection.get(self.path("tags", "list"), params={"n": "1"})
