"""``GET /metrics``: what all workers of this `serve` have counted, and what the catalogue says of itself."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from distsql.api.errors import error_response
from distsql.api.metrics import Counts, Metrics, families
from distsql.api.requests import Request
from distsql.api.responses import Response, header
from distsql.errors import UnavailableError

_log: Final = logging.getLogger("distsql")
_SHARE_S: Final = 1.0
_FRESH_S: Final = 5.0
_SUFFIX: Final = ".json"

Gauges = Callable[[], Awaitable[Mapping[str, float | None]]]
Connections = Callable[[], Mapping[str, int]]

HELP: Final = {
    "garbage_oldest_seconds": "How long the oldest entry of the garbage queue has been waiting.",
    "events_oldest_seconds": "How long the oldest event has been waiting for its delivery to a webhook.",
    "events_dead": "Deliveries to webhooks that were given up within a month.",
    "uploads": "Upload sessions that are open.",
    "replication_lag_bytes": "Of the replica that is furthest behind; none without replicas.",
}


class Scrapes:
    """Answers whoever may ask. ``folder`` is where the workers of one `serve` tell each other what they counted.

    With a ``token`` it has to be shown. Without one only a registry that needs no login answers.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        folder: Path | None,
        token: str,
        is_open: bool,
        gauges: Gauges,
        connections: Connections,
    ) -> None:
        self.metrics = metrics
        self._file = None if folder is None else folder / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        self._token = token
        self._open = is_open
        self._gauges = gauges
        self._connections = connections
        self._found: tuple[Mapping[str, float | None], float] = ({}, 0)
        self._sharing: asyncio.Task[None] | None = None
        self._shared = -1

    def begin(self) -> None:
        """From now on the other workers hear what this one counts."""
        if self._file is not None:
            self._sharing = asyncio.create_task(self._share_always())

    async def close(self) -> None:
        """Leaves behind what was counted: totals never fall while a `serve` runs."""
        if self._sharing is not None:
            self._sharing.cancel()
            await asyncio.gather(self._sharing, return_exceptions=True)
            self.metrics.counts.connections = {}
            self._share()

    async def _share_always(self) -> None:
        while True:
            await asyncio.sleep(_SHARE_S)
            total = sum(self.metrics.counts.requests.values())
            if total == self._shared:
                continue
            self._shared = total
            self.metrics.counts.connections = dict(self._connections())
            self._share()

    def _share(self) -> None:
        if self._file is None:
            return
        unfinished = self._file.with_suffix(".new")
        try:
            unfinished.write_text(self.metrics.counts.dump())
            unfinished.replace(self._file)
        except FileNotFoundError:
            pass  # the folder is gone with the main process, which was killed: nobody is going to ask
        except OSError as error:
            _log.warning("Other workers aren't told this one's metrics: %s", error)

    async def answer(self, request: Request) -> Response:
        """The metrics, or 401 or 404 for those who may not have them."""
        if not self._may_ask(request):
            if not self._token:
                return error_response(404, "UNSUPPORTED", "Metrics are for who knows DISTSQL_METRICS_TOKEN: set it")
            challenge = header(b"www-authenticate", 'Bearer realm="metrics"')
            return error_response(401, "UNAUTHORIZED", "Metrics need their own token", headers=(challenge,))
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest  # noqa: PLC0415

        registry = CollectorRegistry()
        registry.register(_Collected(await asyncio.to_thread(self._together), await self._ask_catalogue()))
        return Response(200, (header(b"content-type", CONTENT_TYPE_LATEST),), generate_latest(registry))

    def _may_ask(self, request: Request) -> bool:
        if not self._token:
            return self._open
        shown = request.header(b"authorization") or ""
        return hmac.compare_digest(shown.encode(), f"Bearer {self._token}".encode())

    def _together(self) -> Counts:
        """Of this process as they are, of the others as they told them last."""
        total = Counts()
        total.merge(self.metrics.counts)
        total.connections = dict(self._connections())
        for path in [] if self._file is None else self._file.parent.glob(f"*{_SUFFIX}"):
            if path != self._file:
                total.merge(Counts.load(path.read_text()))
        return total

    async def _ask_catalogue(self) -> Mapping[str, float | None]:
        """Without the catalogue there are all the other metrics: just then they are wanted."""
        found, at = self._found
        if time.monotonic() - at > _FRESH_S or not found:
            try:
                found = await self._gauges()
            except UnavailableError:
                found = {}
            self._found = found, time.monotonic()
        return found


class _Collected:
    def __init__(self, counts: Counts, gauges: Mapping[str, float | None]) -> None:
        self._counts = counts
        self._gauges = gauges

    def collect(self) -> Iterator[Any]:
        """For prometheus-client."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

        yield from families(self._counts)
        for name, value in self._gauges.items():
            if value is not None:
                yield GaugeMetricFamily(f"distsql_{name}", HELP[name], value=value)
