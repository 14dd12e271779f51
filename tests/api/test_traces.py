"""OpenTelemetry's spans, as they are exported."""

from __future__ import annotations

import sys

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.api.traces import Traces
from distsql.app import Registry
from distsql.errors import SettingsError
from distsql.registry.namespace import StoredNamespace
from distsql.settings import Settings
from tests.registry.pushing import push_image

CALLER_S_TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_a_span_for_each_request_and_statement(settings: Settings, namespace: StoredNamespace) -> None:
    await push_image(namespace.repository("acme/web"), b"layer", tags=["latest"])
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces = Traces(provider.get_tracer("test"))
    async with Registry(settings, observe=traces.add_statement) as registry:
        application = traces.wrap(Application(registry, limits=Limits(), access_log=None))
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://registry.test") as client:
            headers = {"traceparent": f"00-{CALLER_S_TRACE}-b7ad6b7169203331-01", "x-request-id": "request-1"}
            await client.get("/v2/acme/web/manifests/latest", headers=headers)
    spans: dict[str, ReadableSpan] = {span.name: span for span in exporter.get_finished_spans()}
    request, statement = spans["GET get_manifest"], spans["find_tagged_manifest"]
    assert request.kind is SpanKind.SERVER
    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["distsql.request_id"] == "request-1"
    assert f"{request.context.trace_id:032x}" == CALLER_S_TRACE
    assert statement.parent is not None
    assert statement.parent.span_id == request.context.span_id
    assert statement.start_time is not None
    assert request.start_time is not None
    assert statement.end_time is not None
    assert request.start_time <= statement.start_time + 1_000_000 <= statement.end_time + 1_000_000


async def test_statements_outside_of_requests_have_none(settings: Settings) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with Registry(settings, observe=Traces(provider.get_tracer("test")).add_statement) as registry:
        await registry.check()
    assert exporter.get_finished_spans() == ()


def test_without_the_extra_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"pip install 'distsql\[otel\]'"):
        Traces()
