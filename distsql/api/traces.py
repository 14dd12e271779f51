"""OpenTelemetry's traces, for ``pip install distsql[otel]``: a span for each request, and in it one for each statement.

Where spans go is told by OpenTelemetry's own variables, such as ``OTEL_EXPORTER_OTLP_ENDPOINT``. Nothing of this is
imported, nor in the way of any request, unless traces are on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from distsql.api.requests import Request
from distsql.errors import SettingsError
from distsql.values import ASGIApplication, ASGIMessage, ASGIReceive, ASGIScope, ASGISend

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_NANOSECONDS: Final = 1e9
_SERVER_ERROR: Final = 500


class Traces:
    """Makes spans with a tracer: OpenTelemetry's as it was set up, or one that is given."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or _set_up()

    def add_statement(self, name: str, *, seconds: float, round_trips: int) -> None:
        """A span of a statement that has just ended; what runs outside of any request has none."""
        from opentelemetry import trace  # noqa: PLC0415

        if not trace.get_current_span().is_recording():
            return
        now = time.time_ns()
        began = now - int(seconds * _NANOSECONDS)
        span = self._tracer.start_span(name, kind=trace.SpanKind.CLIENT, start_time=began)
        span.set_attributes(
            {"db.system.name": "postgresql", "db.query.summary": name, "distsql.round_trips": round_trips}
        )
        span.end(now)

    def wrap(self, application: ASGIApplication) -> ASGIApplication:
        """The application with a span around each request, which goes on with its caller's trace."""
        from opentelemetry import propagate, trace  # noqa: PLC0415

        async def traced(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
            if scope["type"] != "http":
                await application(scope, receive, send)
                return
            with self._tracer.start_as_current_span(
                scope["method"], context=propagate.extract(_carrier(scope)), kind=trace.SpanKind.SERVER
            ) as span:

                async def watched(message: ASGIMessage) -> None:
                    if message["type"] == "http.response.start":
                        span.set_attribute("http.response.status_code", message["status"])
                        if message["status"] >= _SERVER_ERROR:
                            span.set_status(trace.StatusCode.ERROR)
                    await send(message)

                requests: list[Request] = []
                await application({**scope, "distsql.traced": requests}, receive, watched)
                [request] = requests
                span.update_name(f"{request.method} {request.route}")
                span.set_attributes(
                    {
                        "http.request.method": request.method,
                        "http.route": request.route,
                        "url.path": scope["path"],
                        "client.address": request.client_address,
                        "distsql.request_id": request.request_id,
                    }
                )

        return traced


def _carrier(scope: ASGIScope) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _set_up() -> Tracer:
    """OpenTelemetry's tracer, with an exporter of OTLP over HTTP. Raises `SettingsError` where the extra is missing."""
    try:
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError("DISTSQL_TRACES needs OpenTelemetry: pip install 'distsql[otel]'") from error
    provider = TracerProvider(resource=Resource.create({"service.name": "distsql"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.get_tracer("distsql")
