"""Operations and their statements in a small catalogue and in a large one, in turn."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import fmean, median
from typing import Final, NamedTuple

from benchmarks.explained import ExplainedLog, Pages, Run, explaining
from benchmarks.population import Shape
from benchmarks.scaled_reads import ANYWHERE, Prepare, pages, pulls
from distsql.app import Registry
from distsql.registry.tenants import Tenants
from distsql.settings import Settings
from distsql.values import Caller
from tests.plans.operations import Call, World
from tests.plans.test_budgets import BUDGETS

BAR: Final = 1.3
DRAWN: Final = 400
PATIENCE: Final = timedelta(hours=1)
"""A machine that is paused in the middle of a statement goes on with it."""
WALKS: Final = {"list tags", "list repositories", "list referrers"}
"""These go to the end of everything, so they take longer among more: pages of them are measured instead."""
CALLS: Final = 5
"""Of a read, for each time that it is prepared."""


@dataclass
class Side:
    """A catalogue that is measured."""

    world: World
    shape: Shape
    log: ExplainedLog
    seconds: dict[str, list[float]] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)

    async def prepare(self, prepare: Prepare) -> Call:
        return await prepare(self.world, self.shape)

    async def run(self, name: str, call: Call) -> None:
        self.log.read()  # what was prepared isn't measured
        started = time.perf_counter()
        await call()
        self.seconds.setdefault(name, []).append(time.perf_counter() - started)
        for run in self.log.read():
            statement = run.statement + (ANYWHERE if name.endswith(ANYWHERE) else "")
            self.runs.setdefault(statement, []).append(run)


class Comparison(NamedTuple):
    """Medians in the small catalogue and in the large one: milliseconds; and means of pages, for statements."""

    name: str
    small: float
    large: float
    span: tuple[float, float]
    """Of the ratio, in which it is with 95 %."""
    small_pages: Pages = Pages(0)
    large_pages: Pages = Pages(0)

    @property
    def ratio(self) -> float:
        return self.large / self.small

    @property
    def verdict(self) -> str:
        """Whether it misses the bar, and whether chance alone could have made it so."""
        return "" if self.ratio <= BAR else "MISSED" if self.span[0] > BAR else "missed?"


@asynccontextmanager
async def open_sides(*places: tuple[str, Shape, Path]) -> AsyncIterator[list[Side]]:
    """Of each a database's URL, what is in it, and its server's log."""
    with ExitStack() as settings:
        for url, _, _ in places:
            settings.enter_context(explaining(url))
        async with AsyncExitStack() as stack:
            sides = []
            for url, shape, log in places:
                opened = Settings(
                    database_url=url, storage="memory:", access_log=False, statement_timeout=PATIENCE,
                    lock_timeout=PATIENCE,
                )  # fmt: skip
                registry = await stack.enter_async_context(Registry(opened))
                caller, backend = Caller(actor="scale"), registry.backend
                world = World(
                    registry.namespace.acting_as(caller), backend.database, Tenants(backend.everything, caller)
                )
                sides.append(Side(world, shape, ExplainedLog(log)))
            yield sides


def operations() -> dict[str, Prepare]:
    """Every one of the table of budgets, pages, and pulls of anything."""

    def of_the_table(prepare: Callable[[World], Awaitable[Call]]) -> Prepare:
        return lambda world, _: prepare(world)

    budgets = {name: of_the_table(one.prepare) for name, one in BUDGETS.items() if name not in WALKS}
    return budgets | pages() | pulls()


async def measure(
    small: Side,
    large: Side,
    *,
    rounds: int,
    only: Collection[str] | None = None,
    pulled: int = 0,
    tell: Callable[[str], None],
) -> None:
    """All operations, or only some: in turn, after one round to warm up. In each round the other one is first.

    Before, so many pulls of anything are answered: memory that nobody has touched for long is slow on many a machine.
    """
    for name, prepare in pulls().items():
        tell(f"{pulled} times: {name}")
        for side in (small, large):
            call = await side.prepare(prepare)
            for _ in range(pulled):
                await call()
            side.log.read()
    reads = {*pages(), *pulls(), *(name for name in BUDGETS if name.startswith(("get ", "head ")))}
    for name, prepare in operations().items():
        if only and name not in only:
            continue
        tell(name)
        for number in range(rounds + 1):
            sides = (small, large) if number % 2 else (large, small)
            calls = [(side, await side.prepare(prepare)) for side in sides]
            for _ in range(CALLS if name in reads else 1):
                for side, call in calls:
                    await side.run(name, call)
                calls.reverse()
            if not number:
                del small.seconds[name], large.seconds[name]


def compare_operations(small: Side, large: Side) -> list[Comparison]:
    return [
        _compare(name, [1000 * each for each in small.seconds[name]], [1000 * each for each in large.seconds[name]])
        for name in small.seconds
    ]


def compare_statements(small: Side, large: Side) -> list[Comparison]:
    """Of what ran in both; the first time that it ran in each isn't counted."""
    names = sorted(small.runs.keys() & large.runs.keys())
    return [
        _compare(name, *([run.milliseconds for run in runs] for runs in both))._replace(
            small_pages=_mean_pages(both[0]), large_pages=_mean_pages(both[1])
        )
        for name in names
        if all(both := (small.runs[name][1:], large.runs[name][1:]))
    ]


def _compare(name: str, small: Sequence[float], large: Sequence[float]) -> Comparison:
    return Comparison(name, median(small), median(large), _span(small, large))


def _span(small: Sequence[float], large: Sequence[float]) -> tuple[float, float]:
    """By drawing as many again from what was measured, over and over: what else the ratio might have been."""
    draw = random.Random(0)
    ratios = sorted(
        median(draw.choices(large, k=len(large))) / median(draw.choices(small, k=len(small))) for _ in range(DRAWN)
    )
    return ratios[DRAWN // 40], ratios[-1 - DRAWN // 40]


def _mean_pages(runs: Sequence[Run]) -> Pages:
    return Pages(*map(fmean, zip(*(run.pages for run in runs), strict=True)))
