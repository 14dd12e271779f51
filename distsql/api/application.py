"""The registry's HTTP face: an ASGI application."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from distsql.api.errors import error_response, response_to
from distsql.api.logs import AccessLog
from distsql.api.requests import Limits, Request
from distsql.api.responses import json_response
from distsql.api.routes import answer
from distsql.contract import ASGIApplication, ASGIMessage, ASGIReceive, ASGIScope, ASGISend, Namespace
from distsql.errors import DistsqlError

_log: Final = logging.getLogger("distsql")
# What a client may still send before it hears that its request was refused.
_DRAIN_BYTES: Final = 64 * 1024**2
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
    """``/v2/`` for clients, ``/healthz`` and ``/readyz`` for whoever runs it."""

    def __init__(self, service: Service, *, limits: Limits, access_log: AccessLog | None) -> None:
        self._service = service
        self._limits = limits
        self._access_log = access_log
        self._ids = map("{}-{:x}".format, itertools.repeat(secrets.token_hex(4)), itertools.count(1))

    async def __call__(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Serves one request, or the process's whole life."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _serve(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        started = time.perf_counter()
        request = Request(
            scope, receive, self._service.namespace, request_id=self._request_id(scope), limits=self._limits
        )
        sent = _Sent(send)
        try:
            response = await self._answer(request)
            if request.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in request.headers:
                await request.drain(_DRAIN_BYTES)
            await self._send(request, response, sent)
        finally:
            if self._access_log is not None:
                self._access_log.add(request, status=sent.status, seconds=time.perf_counter() - started)

    def _request_id(self, scope: ASGIScope) -> str:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _REQUEST_ID.match(value):
                text: str = value.decode()
                return text
        return next(self._ids)

    async def _answer(self, request: Request) -> ASGIApplication:
        raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
        path = raw.partition(b"?")[0]
        if path == b"/v2" or path.startswith(b"/v2/"):
            return await self._attempt(request, lambda: answer(request, path))
        if path == b"/healthz":
            return json_response(200, {"status": "alive"})
        if path == b"/readyz":
            return await self._attempt(request, self._ready)
        return error_response(404, "UNSUPPORTED", "There is nothing here: the registry is below /v2/")

    async def _ready(self) -> ASGIApplication:
        await self._service.check()
        return json_response(200, {"status": "ready"})

    async def _attempt(self, request: Request, handle: Callable[[], Awaitable[ASGIApplication]]) -> ASGIApplication:
        """The handler's answer, or that to its error. What nobody expected is logged whole and told to nobody."""
        try:
            return await handle()
        except DistsqlError as error:
            response = response_to(error)
            if response.status >= 500:
                _log.error("%s %s: %s", request.method, request.scope["path"], error, extra=_extra(request))
            return response
        except Exception:  # the process serves others too
            _log.exception("%s %s failed", request.method, request.scope["path"], extra=_extra(request))
            return error_response(500, "UNKNOWN", f"The server failed; its log has it under {request.request_id}")

    async def _send(self, request: Request, response: ASGIApplication, sent: _Sent) -> None:
        """Sends an answer. One that fails before its first byte (bytes that are missing) is still told as an error."""
        try:
            await response(request.scope, request.receive, sent)
        except DistsqlError as error:
            _log.error("%s %s: %s", request.method, request.scope["path"], error, extra=_extra(request))
            if sent.status:
                raise
            await response_to(error)(request.scope, request.receive, sent)

    async def _live(self, receive: ASGIReceive, send: ASGISend) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._service.open()
                except DistsqlError as error:
                    _log.error("%s", error)
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._service.close()
                if self._access_log is not None:
                    self._access_log.flush()
                await send({"type": "lifespan.shutdown.complete"})
                return


class _Sent:
    """Passes messages on and remembers the status."""

    __slots__ = ("_send", "status")

    def __init__(self, send: ASGISend) -> None:
        self._send = send
        self.status = 0

    def __call__(self, message: ASGIMessage) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        return self._send(message)


def _extra(request: Request) -> dict[str, Any]:
    return {"request_id": request.request_id}
