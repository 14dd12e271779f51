"""What came out: tables for a terminal, JSON for programs, Markdown for docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.memory import BAR, Growth
from benchmarks.rounds import FIGURES, Result
from benchmarks.servers import BARE, GUARDED, OPEN

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes resident at most, over the whole run."""

    server: str
    own: int
    postgres: int


@dataclass(frozen=True, slots=True)
class Report:
    settings: dict[str, Any]
    ours: Sequence[str]
    peers: Sequence[str]
    """The first is the one that bars are about."""
    results: Sequence[Result]
    footprints: Sequence[Footprint]
    growths: Sequence[Growth]


Row = Sequence[str]
Rows = tuple[str, Row, list[Row]]
"""A title, the columns' names, and the rows."""


def list_tables(report: Report) -> list[Rows]:
    tables: list[Rows] = []
    if report.results:
        tables = [_comparison(report, ours, peer) for peer in report.peers for ours in reversed(report.ours)]
        tables.append(_absolutes(report))
    if any(result.operation.with_bare for result in report.results):
        tables.append(_limits(report))
    if report.footprints:
        tables.append(_footprints(report))
    if report.growths:
        tables.append(_growths(report))
    return tables


def print_tables(report: Report, console: Console) -> None:
    for title, columns, rows in list_tables(report):
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def to_markdown(report: Report) -> str:
    parts = [f"{describe_machine()}, {_describe_settings(report)}\n"]
    for title, columns, rows in list_tables(report):
        lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
        parts.append(f"### {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(parts)


def to_json(report: Report) -> str:
    document = {
        "machine": describe_machine(),
        "settings": report.settings,
        "ours": list(report.ours),
        "peers": list(report.peers),
        "operations": [_operation(report, result) for result in report.results],
        "memory": [asdict(footprint) for footprint in report.footprints],
        "growth": [asdict(growth) | {"most": growth.most, "bar": BAR} for growth in report.growths],
    }
    return json.dumps(document, indent=2) + "\n"


def describe_result(result: Result) -> str:
    """One line, for those who wait."""
    rates = (f"{name} {_absolute(result, name)}" for name in result.samples)
    return f"{result.operation.name}: {'; '.join(rates)}"


def describe_machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _describe_settings(report: Report) -> str:
    return ", ".join(f"{name} {value}" for name, value in report.settings.items())


def _comparison(report: Report, ours: str, peer: str) -> Rows:
    bars = {GUARDED: lambda one: one.bar, OPEN: lambda one: one.open_bar}.get(ours) if peer == report.peers[0] else None
    columns = ("operation", *(["bar"] if bars else []), *(figure.name for figure in FIGURES))
    rows: list[Row] = []
    for result in report.results:
        shown = [_spread(result.ratios(ours, peer, figure)) for figure in FIGURES]
        if bars and (bar := bars(result.operation)):
            reached = median(result.ratios(ours, peer)) >= bar
            shown.insert(0, f"{bar:g} {'reached' if reached else 'MISSED'}")
        elif bars:
            shown.insert(0, "")
        rows.append((result.operation.name, *shown))
    return f"{ours} against {peer}: times better, median (min - max)", columns, rows


def _spread(ratios: Sequence[float]) -> str:
    digits = 2 if median(ratios) < 10 else 0
    return f"{median(ratios):.{digits}f} ({min(ratios):.{digits}f} - {max(ratios):.{digits}f})"


def _absolutes(report: Report) -> Rows:
    servers = (*report.ours, *report.peers)
    rows = [(one.operation.name, *(_absolute(one, server) for server in servers)) for one in report.results]
    return (
        "Each by itself: rate, CPU us, p50 / p99 ms, cores of the load generator",
        ("operation", *servers),
        list(rows),
    )


def _absolute(result: Result, server: str) -> str:
    p50, p99 = (1000 * each for each in result.latencies(server))
    rate = f"{result.rate(server):,.{0 if result.rate(server) >= 10 else 2}f} {result.unit}"
    return f"{rate}, {result.cpu(server):,.0f}, {p50:.1f} / {p99:.1f}, {result.load_share(server):.1f}"


def _limits(report: Report) -> Rows:
    """What a client takes by itself stays, however fast a registry is."""
    servers = (BARE, *report.ours)
    rows = [
        (one.operation.name, *(_against(one, server, report.peers[0]) for server in servers))
        for one in report.results
        if one.operation.with_bare
    ]
    title = f"The most that is to be had: a registry that does nothing, against {report.peers[0]}; ms for each"
    return title, ("operation", *servers), list(rows)


def _against(result: Result, server: str, peer: str) -> str:
    return f"{_spread(result.ratios(server, peer))}, {1000 * result.latencies(server).p50:.0f} ms"


def _footprints(report: Report) -> Rows:
    rows = [(one.server, _mib(one.own), _mib(one.postgres), _mib(one.own + one.postgres)) for one in report.footprints]
    return "Peak memory, MiB", ("server", "own processes", "PostgreSQL", "all"), list(rows)


def _growths(report: Report) -> Rows:
    columns = ("server", "before", "uploading", "downloading", "PostgreSQL", f"bar {_mib(BAR)}")
    return "Growth under 16 uploads, then 16 downloads, MiB", columns, [_growth_row(one) for one in report.growths]


def _growth_row(growth: Growth) -> Row:
    sizes = (growth.before, growth.uploading, growth.downloading, growth.postgres)
    return (growth.server, *map(_mib, sizes), "held" if growth.most < BAR else "MISSED")


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f}"


def _operation(report: Report, result: Result) -> dict[str, Any]:
    servers = tuple(result.samples)

    def each(read: Callable[[str], object]) -> dict[str, object]:
        return {name: read(name) for name in servers}

    def ratios(ours: str, peer: str) -> dict[str, list[float]]:
        return {figure.name: result.ratios(ours, peer, figure) for figure in FIGURES}

    return {
        "name": result.operation.name,
        "unit": result.unit,
        "bars": {GUARDED: result.operation.bar, OPEN: result.operation.open_bar},
        "ratios": {
            ours: {peer: ratios(ours, peer) for peer in report.peers} for ours in servers if ours not in report.peers
        },
        "rate": each(result.rate),
        "cpu_us": each(result.cpu),
        "latencies_s": each(lambda name: result.latencies(name)._asdict()),
        "load_cores": each(result.load_share),
        "samples": each(lambda name: [asdict(sample) for sample in result.samples[name]]),
    }
