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
from benchmarks.rounds import Result

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
    ours: str
    peers: Sequence[str]
    results: Sequence[Result]
    footprints: Sequence[Footprint]
    growths: Sequence[Growth]


Row = Sequence[str]
Rows = tuple[str, Row, list[Row]]
"""A title, the columns' names, and the rows."""


def list_tables(report: Report) -> list[Rows]:
    tables = [_comparison(report, peer) for peer in report.peers] if report.results else []
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
        "ours": report.ours,
        "peers": list(report.peers),
        "operations": [_operation(report, result) for result in report.results],
        "memory": [asdict(footprint) for footprint in report.footprints],
        "growth": [asdict(growth) | {"most": growth.most, "bar": BAR} for growth in report.growths],
    }
    return json.dumps(document, indent=2) + "\n"


def describe_result(result: Result) -> str:
    """One line, for those who wait."""
    rates = (f"{name} {result.rate(name):,.0f} {result.unit}, {result.cpu(name):,.0f} us" for name in result.samples)
    return f"{result.operation.name}: {'; '.join(rates)}"


def describe_machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _describe_settings(report: Report) -> str:
    return ", ".join(f"{name} {value}" for name, value in report.settings.items())


def _comparison(report: Report, peer: str) -> Rows:
    columns = ("operation", "ratio", "min - max", report.ours, peer, "CPU us", f"CPU us, {peer}", "load, cores")
    return f"{report.ours} against {peer}", columns, [_compare_row(report.ours, peer, one) for one in report.results]


def _compare_row(ours: str, peer: str, result: Result) -> Row:
    ratios = result.ratios(ours, peer)
    return (
        result.operation.name,
        f"{median(ratios):.2f}",
        f"{min(ratios):.2f} - {max(ratios):.2f}",
        *(f"{result.rate(server):,.0f} {result.unit}" for server in (ours, peer)),
        *(f"{result.cpu(server):,.0f}" for server in (ours, peer)),
        " / ".join(f"{result.load_share(server):.2f}" for server in (ours, peer)),
    )


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
    servers = (report.ours, *report.peers)

    def each(read: Callable[[str], object]) -> dict[str, object]:
        return {name: read(name) for name in servers}

    return {
        "name": result.operation.name,
        "unit": result.unit,
        "ratios": {peer: result.ratios(report.ours, peer) for peer in report.peers},
        "rate": each(result.rate),
        "cpu_us": each(result.cpu),
        "load_cores": each(result.load_share),
        "samples": each(lambda name: [asdict(sample) for sample in result.samples[name]]),
    }
