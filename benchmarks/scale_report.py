"""What benchmarks.scale found, as tables, with the bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.population import Shape
from benchmarks.scaled_servers import Life, Second
from benchmarks.scaled_statements import BAR, Comparison
from benchmarks.vacuums import Watched

START_S: Final = 2.0


class Figures(NamedTuple):
    shape: Shape
    size: int
    memories: Mapping[str, str]
    """Of each PostgreSQL: what it has for its buffers."""
    operations: Sequence[Comparison]
    statements: Sequence[Comparison]
    small: Life
    large: Life
    watched: Watched
    restart: Sequence[Second]

    @property
    def misses(self) -> bool:
        ratios = [each.ratio for each in (*self.operations, *self.statements)]
        return max(ratios) > BAR or self.large.ready_s > START_S or not self.watched.vacuums


def print_figures(figures: Figures, console: Console) -> None:
    shape = figures.shape
    console.print(
        f"{shape.tenants:,} tenants, {shape.repositories:,} repositories, {shape.manifests:,} manifests, "
        f"{shape.manifests * shape.tags:,} live tags, {figures.size / 1e9:.1f} GB",
        highlight=False,
    )
    console.print(*(f"{name}: {memory}." for name, memory in figures.memories.items()), highlight=False)
    for title, comparisons in (("operation", figures.operations), ("statement", figures.statements)):
        console.print(_compare(title, comparisons))
    console.print(_lives(figures))
    console.print(_restart(figures.restart))
    watched = figures.watched
    console.print(
        f"{watched.changed:,} tags changed: at most {watched.most_dead:.2%} of the table were dead, "
        f"autovacuum came {watched.vacuums} times, then {watched.dead_after:.2%}",
        highlight=False,
    )


def _compare(title: str, comparisons: Sequence[Comparison]) -> Table:
    pages = "pages (not in buffers, logged whole)"
    table = Table(title, "ms among 1,000", "ms among all", f"ratio (in 95 %), bar {BAR}", pages, "the same among all")
    for one in sorted(comparisons, key=lambda each: -each.ratio):
        shown = f"{one.ratio:.2f} ({one.span[0]:.2f} - {one.span[1]:.2f}) {one.verdict}"
        pages_of = (one.small_pages, one.large_pages)
        touched = ("{:.0f} ({:.1f}, {:.1f})".format(*each) if each.touched else "" for each in pages_of)
        table.add_row(one.name, f"{one.small:.3f}", f"{one.large:.3f}", shown, *touched)
    return table


def _lives(figures: Figures) -> Table:
    table = Table("server over", f"ready, s (bar {START_S:g})", "CPU of it, s", "MiB at first", "MiB after many pulls")
    for name, life in (("1,000 manifests", figures.small), ("all", figures.large)):
        table.add_row(name, *(f"{figure:.2f}" for figure in life))
    return table


def _restart(seconds: Sequence[Second]) -> Table:
    table = Table("second after a cold restart", "pulls", "p50, ms", "p99, ms")
    for second in seconds:
        table.add_row(str(second.number + 1), str(second.requests), f"{second.p50:.1f}", f"{second.p99:.1f}")
    return table
