"""The registry's HTTP face: an ASGI application."""

from __future__ import annotations

import itertools
import logging
import re
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
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")


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
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _serve(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        started = time.perf_counter()
        request = Request(scope, receive, self._service.namespace, self._limits)
        request.request_id = self._request_id(request)
        scope["distsql.request"] = request  # for traces
        sent = _Sent(send)
        try:
            try:
                response = await self._answer(request)
            except Exception as error:  # noqa: BLE001  # every one has an answer
                response = self._failure(request, error)
            if request.has_body:
                await request.drain(_DRAIN_BYTES)
            await self._send(request, _with_warnings(request, response), sent)
        finally:
            self._record(request, sent, time.perf_counter() - started)

    def _record(self, request: Request, sent: _Sent, seconds: float) -> None:
        if self._pulls is not None and request.repository is not None:
            count(self._pulls, request, status=sent.status, length=sent.length)
        if self._incidents is not None and (request.refusal is not None or request.logged_in is not None):
            tell(self._incidents, request)
        if self._scrapes is not None:
            self._scrapes.metrics.add_request(
                request.route,
                request.method,
                sent.status,
                seconds=seconds,
                sent=0 if request.method == "HEAD" else sent.length,
                received=request.received,
            )
        if self._access_log is not None:
            self._access_log.add(request, status=sent.status, seconds=seconds)

    def _request_id(self, request: Request) -> str:
        given = request.headers.get(b"x-request-id")
        return given.decode() if given is not None and _REQUEST_ID.match(given) else next(self._ids)

    async def _answer(self, request: Request) -> ASGIApplication:
        path = _raw_path(request.scope)
        if path == b"/v2" or path.startswith(b"/v2/"):
            request.tenant = self._hosts.tenant_of(request.scope["headers"])
            return await answer(request, path, self._authorizer)
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

    async def _send(self, request: Request, response: ASGIApplication, sent: _Sent) -> None:
        """Sends an answer. One that fails before its first byte (bytes that are missing) is still told as an error."""
        if isinstance(response, Response):  # in memory: nothing can fail
            await sent.whole(response, request)
            return
        try:
            await response(request.scope, request.receive, sent)
        except Exception as error:
            failure = self._failure(request, error)
            if sent.status:
                # The web server cuts the connection: the only way left to say that this is not the whole content.
                raise ConnectionAbortedError(f"The answer to {request.request_id} could not be sent whole") from error
            await sent.whole(failure, request)

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
    if request.warnings and isinstance(response, Response) and response.status < HTTPStatus.BAD_REQUEST:
        return replace(response, headers=[*response.headers, *map(warning, dict.fromkeys(request.warnings))])
    return response


class _Sent:
    """Passes messages on and remembers how the answer begins."""

    __slots__ = ("_send", "length", "status")

    def __init__(self, send: ASGISend) -> None:
        self._send = send
        self.status = 0
        self.length = 0

    def __call__(self, message: ASGIMessage) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status, self.length = message["status"], content_length(message["headers"])
        return self._send(message)

    async def whole(self, response: Response, request: Request) -> None:
        """Sends an answer that is in memory."""
        self.status, self.length = response.status, response.content_length
        await response(request.scope, request.receive, self._send)


def _raw_path(scope: ASGIScope) -> bytes:
    """The path as it came, without the query; servers may leave it out, and give only what they decoded."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"], errors="replace").encode()
    return raw.partition(b"?")[0]


def _named(request: Request) -> str:
    return f"{request.method} {printable(request.scope['path'], _MAX_PATH)}"


def _extra(request: Request) -> dict[str, Any]:
    return {"request_id": request.request_id}
