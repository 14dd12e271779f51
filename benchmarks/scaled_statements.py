"""Operations and their statements in a small catalogue and in a large one, in turn."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import fmean, median
from typing import Final, NamedTuple

from benchmarks.explained import ExplainedLog, Pages, Run, explaining
from distsql.app import Registry
from distsql.registry.tenants import Tenants
from distsql.settings import Settings
from distsql.values import Caller
from tests.plans.operations import Call, World
from tests.plans.test_budgets import BUDGETS

BAR: Final = 1.3
PATIENCE: Final = timedelta(hours=1)
"""A machine that is paused in the middle of a statement goes on with it."""
WALKS: Final = {"list tags", "list repositories", "list referrers"}
"""These go to the end of everything, so they take longer among more: pages of them are measured instead."""
Prepare = Callable[[World], Awaitable[Call]]


@dataclass
class Side:
    """A catalogue that is measured."""

    world: World
    log: ExplainedLog
    seconds: dict[str, list[float]] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)

    async def run(self, name: str, prepare: Prepare) -> None:
        call = await prepare(self.world)
        self.log.read()  # what was prepared isn't measured
        started = time.perf_counter()
        await call()
        self.seconds.setdefault(name, []).append(time.perf_counter() - started)
        for run in self.log.read():
            self.runs.setdefault(run.statement, []).append(run)


class Comparison(NamedTuple):
    """Medians in the small catalogue and in the large one: milliseconds; and means of pages, for statements."""

    name: str
    small: float
    large: float
    small_pages: Pages = Pages(0)
    large_pages: Pages = Pages(0)

    @property
    def ratio(self) -> float:
        return self.large / self.small


@asynccontextmanager
async def open_sides(*places: tuple[str, Path]) -> AsyncIterator[list[Side]]:
    """Of each a database's URL and its server's log."""
    with ExitStack() as settings:
        for url, _ in places:
            settings.enter_context(explaining(url))
        async with AsyncExitStack() as stack:
            sides = []
            for url, log in places:
                opened = Settings(
                    database_url=url, storage="memory:", access_log=False, statement_timeout=PATIENCE,
                    lock_timeout=PATIENCE,
                )  # fmt: skip
                registry = await stack.enter_async_context(Registry(opened))
                caller, backend = Caller(actor="scale"), registry.backend
                world = World(
                    registry.namespace.acting_as(caller), backend.database, Tenants(backend.everything, caller)
                )
                sides.append(Side(world, ExplainedLog(log)))
            yield sides


def pages() -> dict[str, Prepare]:
    """Pages of 100 of acme/web's tags, which are called v1, v1.2, v1.3 ..., and of all repositories."""

    def tags(after: str) -> Prepare:
        async def prepare(world: World) -> Call:
            async def listed() -> None:
                assert len([each async for each in world.web.tags.list(after=after, limit=100)]) >= 90, after

            return listed

        return prepare

    def repositories(after: str) -> Prepare:
        async def prepare(world: World) -> Call:
            async def listed() -> None:
                assert [each async for each in world.namespace.repositories(after=after, limit=100)], after

            return listed

        return prepare

    return {
        "100 tags, first page": tags(""),
        "100 tags, middle": tags("v18"),
        "100 tags, deep": tags("v8"),
        "100 repositories, first page": repositories(""),
        "100 repositories, middle": repositories("tenant-5"),
        "100 repositories, deep": repositories("tenant-9"),
    }


def operations() -> dict[str, Prepare]:
    """Every one of the table of budgets, and pages."""
    return {name: one.prepare for name, one in BUDGETS.items() if name not in WALKS} | pages()


async def measure(
    small: Side, large: Side, *, rounds: int, only: Collection[str] | None = None, tell: Callable[[str], None]
) -> None:
    """All operations, or only some: in turn, after one round to warm up."""
    for name, prepare in operations().items():
        if only and name not in only:
            continue
        tell(name)
        for number in range(rounds + 1):
            for side in (small, large):
                await side.run(name, prepare)
                if not number:
                    del side.seconds[name]


def compare_operations(small: Side, large: Side) -> list[Comparison]:
    names = list(small.seconds)
    return [Comparison(name, 1000 * median(small.seconds[name]), 1000 * median(large.seconds[name])) for name in names]


def compare_statements(small: Side, large: Side) -> list[Comparison]:
    """Of what ran in both; the first time that it ran in each isn't counted."""
    names = sorted(small.runs.keys() & large.runs.keys())
    return [_compare(name, small.runs[name][1:], large.runs[name][1:]) for name in names if len(small.runs[name]) > 1]


def _compare(name: str, small: Sequence[Run], large: Sequence[Run]) -> Comparison:
    return Comparison(
        name,
        median(run.milliseconds for run in small),
        median(run.milliseconds for run in large),
        *(Pages(*map(fmean, zip(*(run.pages for run in runs), strict=True))) for runs in (small, large)),
    )
