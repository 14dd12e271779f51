"""Metrics: counted in plain dictionaries, told in Prometheus' format by its client library.

The library's own counters cost a request several microseconds each, and its mode for several processes more; here a
request costs a few additions. Each worker writes what it has counted into a folder that all workers of a `serve` share,
and whichever is asked adds up. Label sets are those of the code: nothing that people name is one.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper ends of the buckets of times."""

_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"})


class Histogram:
    """How often something took how long."""

    __slots__ = ("counts", "sum")

    def __init__(self, counts: Iterable[int] = (0,) * (len(SECONDS) + 1), total: float = 0.0) -> None:
        self.counts = list(counts)
        self.sum = total

    def add(self, seconds: float) -> None:
        """Counts one that took so long."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.sum += seconds

    def merge(self, other: Histogram) -> None:
        """Takes the other one in."""
        self.counts = [mine + others for mine, others in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


@dataclass(slots=True)
class Counts:
    """What one process, or all of them together, have done since they began."""

    requests: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """By route, method and status."""
    request_seconds: dict[str, Histogram] = field(default_factory=dict)
    statement_seconds: dict[str, Histogram] = field(default_factory=dict)
    sent_bytes: dict[str, int] = field(default_factory=dict)
    received_bytes: dict[str, int] = field(default_factory=dict)
    connections: dict[str, int] = field(default_factory=dict)
    """Of the database pools: open, in use, and at most."""

    def merge(self, other: Counts) -> None:
        """Takes the other ones in."""
        for mine, others in (
            (self.requests, other.requests),
            (self.sent_bytes, other.sent_bytes),
            (self.received_bytes, other.received_bytes),
            (self.connections, other.connections),
        ):
            _add_all(mine, others)
        for times, more in (
            (self.request_seconds, other.request_seconds),
            (self.statement_seconds, other.statement_seconds),
        ):
            for name, histogram in more.items():
                times.setdefault(name, Histogram()).merge(histogram)

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(
            {
                "requests": [[*key, count] for key, count in self.requests.items()],
                "request_seconds": _dumped(self.request_seconds),
                "statement_seconds": _dumped(self.statement_seconds),
                "sent_bytes": self.sent_bytes,
                "received_bytes": self.received_bytes,
                "connections": self.connections,
            }
        )

    @classmethod
    def load(cls, text: str) -> Counts:
        """What `dump` wrote."""
        found = json.loads(text)
        return cls(
            {(route, method, status): count for route, method, status, count in found["requests"]},
            _loaded(found["request_seconds"]),
            _loaded(found["statement_seconds"]),
            found["sent_bytes"],
            found["received_bytes"],
            found["connections"],
        )


def _add_all(mine: dict[Any, int], others: Mapping[Any, int]) -> None:
    for key, count in others.items():
        mine[key] = mine.get(key, 0) + count


def _dumped(times: Mapping[str, Histogram]) -> dict[str, object]:
    return {name: [histogram.counts, histogram.sum] for name, histogram in times.items()}


def _loaded(found: Mapping[str, tuple[list[int], float]]) -> dict[str, Histogram]:
    return {name: Histogram(counts, total) for name, (counts, total) in found.items()}


class Metrics:
    """What this process counts."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = Counts()

    def add_request(self, route: str, method: str, status: int, *, seconds: float, sent: int, received: int) -> None:
        """Counts a request that was answered, or that nobody waited for (status 0)."""
        counts = self.counts
        key = (route, method if method in _METHODS else "other", status)
        counts.requests[key] = counts.requests.get(key, 0) + 1
        times = counts.request_seconds.get(route)
        if times is None:
            times = counts.request_seconds[route] = Histogram()
        times.add(seconds)
        if sent:
            counts.sent_bytes[route] = counts.sent_bytes.get(route, 0) + sent
        if received:
            counts.received_bytes[route] = counts.received_bytes.get(route, 0) + received

    def add_statement(self, name: str, *, seconds: float, round_trips: int) -> None:
        """Counts a statement; one that travelled with another isn't timed by itself."""
        del round_trips
        times = self.counts.statement_seconds.get(name)
        if times is None:
            times = self.counts.statement_seconds[name] = Histogram()
        times.add(seconds)


def families(counts: Counts) -> Iterator[Any]:
    """Prometheus' families of what was counted."""
    from prometheus_client.core import (  # noqa: PLC0415  # only who is asked for metrics needs it
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    requests = CounterMetricFamily(
        "distsql_requests",
        "Requests, by what was asked for and the answer's status.",
        labels=["route", "method", "code"],
    )
    for (route, method, status), count in sorted(counts.requests.items()):
        requests.add_metric([route, method, str(status)], count)
    yield requests
    for name, help_, label, times in (
        ("distsql_request_seconds", "From a request to the end of its answer.", "route", counts.request_seconds),
        ("distsql_statement_seconds", "Statements, by name.", "statement", counts.statement_seconds),
    ):
        family = HistogramMetricFamily(name, help_, labels=[label])
        for key, histogram in sorted(times.items()):
            family.add_metric([key], _buckets(histogram), histogram.sum)
        yield family
    for name, help_, totals in (
        ("distsql_sent_bytes", "Of answers, by what was asked for.", counts.sent_bytes),
        ("distsql_received_bytes", "Of requests' bodies.", counts.received_bytes),
    ):
        counter = CounterMetricFamily(name, help_, labels=["route"])
        for key, total in sorted(totals.items()):
            counter.add_metric([key], total)
        yield counter
    pool = GaugeMetricFamily("distsql_pool_connections", "Of the database pools for writing.", labels=["state"])
    for state, count in sorted(counts.connections.items()):
        pool.add_metric([state], count)
    yield pool


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for end, count in zip((*map(str, SECONDS), "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((end, float(total)))
    return buckets
