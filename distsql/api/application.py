"""The registry's HTTP face: an ASGI application."""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from collections.abc import Awaitable
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import quote

from distsql.api.authorization import TOKEN_PATH, Authorizer
from distsql.api.errors import error_response, response_to
from distsql.api.hosts import TenantHosts
from distsql.api.incidents import cause_of, tell
from distsql.api.logs import AccessLog
from distsql.api.pulls import count
from distsql.api.requests import Limits, Request, printable
from distsql.api.responses import Response, content_length, json_response, warning
from distsql.api.routes import answer
from distsql.api.scrapes import Scrapes
from distsql.api.tokens import answer_token_request
from distsql.contract import Namespace
from distsql.errors import DistsqlError, RefusedError
from distsql.registry.incidents import Incidents
from distsql.registry.pulls import Pulls
from distsql.values import ASGIApplication, ASGIMessage, ASGIReceive, ASGIScope, ASGISend

_log: Final = logging.getLogger("distsql")
# What a client may still send before it hears that its request was refused.
_DRAIN_BYTES: Final = 64 * 1024**2
_MAX_PATH: Final = 1024


class _ClientGoneError(Exception):
    """The web server says that the client takes no more of its answer."""


class Service(Protocol):
    """What the application fronts: the registry, and its life in this process."""

    @property
    def namespace(self) -> Namespace: ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def check(self) -> None:
        """Raises `DistsqlError` when a request would fail for want of the database or the store."""


class Application:
    """``/v2/`` for clients, ``/healthz``, ``/readyz`` and ``/metrics`` for whoever runs it.

    Below ``tenant_domain``, if there is one, a host's name is a tenant's.
    """

    def __init__(
        self,
        service: Service,
        *,
        limits: Limits,
        access_log: AccessLog | None,
        authorizer: Authorizer | None = None,
        pulls: Pulls | None = None,
        scrapes: Scrapes | None = None,
        tenant_domain: str = "",
        incidents: Incidents | None = None,
    ) -> None:
        self._service = service
        self._authorizer = authorizer
        self._hosts = TenantHosts(tenant_domain)
        self._limits = limits
        self._access_log = access_log
        self._pulls = pulls
        self._scrapes = scrapes
        self._incidents = incidents
        self._ids = map("{}-{:x}".format, itertools.repeat(secrets.token_hex(4)), itertools.count(1))

    async def __call__(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Serves one request, or the process's whole life."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._live(receive, send)
            return
        started = time.perf_counter()
        request = Request(scope, receive, self._service.namespace, self._limits, self._ids)
        traced = scope.get("distsql.traced")
        if traced is not None:  # otherwise nothing in the scope leads to the request: such circles stay for long
            traced.append(request)
        try:
            try:
                response = await self._answer(request)
            except Exception as error:  # noqa: BLE001  # every one has an answer
                response = self._failure(request, error)
            if request.has_body:
                await request.drain(_DRAIN_BYTES)
            if request.warnings:
                response = _with_warnings(request, response)
            if isinstance(response, Response):  # in memory: nothing can fail
                request.status, request.sent_length = response.status, response.content_length
                await response(scope, receive, send)
            else:
                await self._send(request, response, send)
        finally:
            self._record(request, time.perf_counter() - started)

    def _record(self, request: Request, seconds: float) -> None:
        if self._pulls is not None and request.repository is not None:
            count(self._pulls, request)
        if self._incidents is not None and (request.refusal is not None or request.logged_in is not None):
            tell(self._incidents, request)
        if self._scrapes is not None:
            self._scrapes.metrics.add_request(
                request.route,
                request.method,
                request.status,
                seconds=seconds,
                sent=0 if request.method == "HEAD" else request.sent_length,
                received=request.received,
            )
        if self._access_log is not None:
            self._access_log.add(request, status=request.status, seconds=seconds)

    def _answer(self, request: Request) -> Awaitable[ASGIApplication]:
        path = _raw_path(request.scope)
        if not path.startswith(b"/v2/") and path != b"/v2":
            return self._answer_elsewhere(request, path)
        request.tenant = self._hosts.tenant_of(request.scope["headers"])
        return answer(request, path, self._authorizer)

    async def _answer_elsewhere(self, request: Request, path: bytes) -> ASGIApplication:
        if path == TOKEN_PATH.encode() and self._authorizer is not None:
            request.route = "token"
            request.tenant = self._hosts.tenant_of(request.scope["headers"])
            return await answer_token_request(request, self._authorizer)
        if path == b"/metrics" and self._scrapes is not None:
            request.route = "metrics"
            return await self._scrapes.answer(request)
        if path == b"/healthz":
            request.route = "healthz"
            return json_response(200, {"status": "alive"})
        if path == b"/readyz":
            request.route = "readyz"
            await self._service.check()
            return json_response(200, {"status": "ready"})
        return error_response(404, "UNSUPPORTED", "There is nothing here: the registry is below /v2/")

    async def _send(self, request: Request, response: ASGIApplication, send: ASGISend) -> None:
        """Sends an answer. One that fails before its first byte (bytes that are missing) is still told as an error."""

        async def watched(message: ASGIMessage) -> None:
            if message["type"] == "http.response.start":
                request.status, request.sent_length = message["status"], content_length(message["headers"])
            try:
                await send(message)
            except ConnectionError as error:
                raise _ClientGoneError from error

        try:
            await response(request.scope, request.receive, watched)
        except _ClientGoneError:  # nobody is there any more to be told
            return
        except Exception as error:
            failure = self._failure(request, error)
            if request.status:
                # The web server cuts the connection: the only way left to say that this is not the whole content.
                raise ConnectionAbortedError(f"The answer to {request.request_id} could not be sent whole") from error
            request.status, request.sent_length = failure.status, failure.content_length
            await failure(request.scope, request.receive, send)

    def _failure(self, request: Request, error: Exception) -> Response:
        """The answer to an error. What nobody expected is logged whole and told to nobody."""
        if not isinstance(error, DistsqlError):
            _log.error("%s failed", _named(request), extra=_extra(request), exc_info=error)
            return error_response(500, "UNKNOWN", f"The server failed; its log has it under {request.request_id}")
        response = response_to(error, request.shown)
        if isinstance(error, RefusedError):
            request.refusal = cause_of(error)
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("%s: %s", _named(request), error, extra=_extra(request))
        return response

    async def _live(self, receive: ASGIReceive, send: ASGISend) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._service.open()
                    if self._authorizer is not None:
                        await self._authorizer.authenticator.keys()
                except DistsqlError as error:
                    _log.error("%s", error)
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                if self._scrapes is not None:
                    self._scrapes.begin()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._authorizer is not None:
                    await self._authorizer.authenticator.close()
                await self._service.close()
                if self._scrapes is not None:
                    await self._scrapes.close()
                if self._access_log is not None:
                    self._access_log.flush()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _with_warnings(request: Request, response: ASGIApplication) -> ASGIApplication:
    """What the registry wants the caller to know although all went well."""
    if isinstance(response, Response) and response.status < HTTPStatus.BAD_REQUEST:
        return replace(response, headers=[*response.headers, *map(warning, dict.fromkeys(request.warnings))])
    return response


def _raw_path(scope: ASGIScope) -> bytes:
    """The path as it came, without the query; servers may leave it out, and give only what they decoded."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"], errors="replace").encode()
    return raw.partition(b"?")[0]


def _named(request: Request) -> str:
    return f"{request.method} {printable(request.scope['path'], _MAX_PATH)}"


def _extra(request: Request) -> dict[str, Any]:
    return {"request_id": request.request_id}
