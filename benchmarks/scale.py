"""`python -m benchmarks.scale`: what requests cost in a very large catalogue, against one of 1,000 manifests.

    python -m benchmarks.scale fill --data DIR [--manifests N ...]     a private PostgreSQL with so much in it
    python -m benchmarks.scale measure --data DIR                      what has to hold at any size, and whether it does
    python -m benchmarks.scale all --data DIR [--manifests N ...]      both, and everything is removed at the end

The small catalogue is made for each measurement. Both databases run at once and are asked in turn, so what else the
machine does meets both alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import psycopg
from rich.console import Console

from benchmarks.__main__ import make_folder
from benchmarks.explained import change_settings
from benchmarks.population import Shape, fill
from benchmarks.scale_report import Figures, print_figures
from benchmarks.scaled_servers import Second, forget_files, live, median_life, pull, serving
from benchmarks.scaled_statements import (
    Comparison,
    compare_operations,
    compare_statements,
    measure,
    open_sides,
    operations,
)
from benchmarks.vacuums import churn
from distsql.embedded import PrivatePostgres
from distsql.sql import schema

progress: Final = Console(stderr=True)
SHAPE: Final = "shape.json"
ROOM: Final = 14_000
"""Bytes of disk for each manifest, with all that comes with it: tables, indexes, and the log of writing them."""
SMALL: Final = {"tenants": 100, "repositories": 1_000, "manifests": 1_000, "tags": 5_000}
LARGE: Final = {"tenants": 10_000, "repositories": 100_000, "manifests": 1_000_000, "tags": 5_000_000}
PULLED: Final = 3_000
"""Manifests by tag, by digest, and blobs, before anything is measured in what is warm."""
# Tables first, so that indexes are what stays where there isn't room for both.
READ_ALL: Final = """
select pg_prewarm(oid) from pg_class where relkind in ('r', 'i') and relnamespace = 'public'::regnamespace
order by relkind = 'i', pg_relation_size(oid) desc
"""
MEMORY: Final = """
select current_setting('shared_buffers') || ' of buffers, huge pages '
    || coalesce(current_setting('huge_pages_status', true), 'unknown')
"""


def make_shape(*, tenants: int, repositories: int, manifests: int, tags: int) -> Shape:
    """`tags` in all. A hundredth of the repositories are acme's; acme/web has 2 % of the manifests, as a large one."""
    return Shape(
        tenants=tenants,
        repositories=repositories,
        manifests=manifests,
        events=manifests,
        acme=max(2, repositories // 100),
        web=max(min(200, manifests // 2), manifests // 50),
        tagged=1,
        tags=max(1, tags // manifests),
        moves=1,
        days=4,
    )


def fill_folder(data: Path, shape: Shape) -> None:
    """A private PostgreSQL in this folder, with the latest schema, and filled."""
    data.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(data).free < shape.manifests * ROOM:
        raise SystemExit(f"{data}: {shape.manifests * ROOM / 1e9:.0f} GB of free disk are needed")
    with PrivatePostgres(data) as postgres:
        url = postgres.url(data)
        schema.migrate(url)
        change_settings(url, {"max_wal_size": "'8GB'", "checkpoint_timeout": "'30min'"})
        started = time.perf_counter()
        fill(url, shape, lambda line: progress.print(line, highlight=False, markup=False))
        change_settings(url, {"max_wal_size": None, "checkpoint_timeout": None})
        (data / SHAPE).write_text(json.dumps(asdict(shape)))
        progress.print(f"{time.perf_counter() - started:7.1f} s  in all, {size_of(url) / 1e9:.1f} GB")


def size_of(url: str) -> int:
    with psycopg.connect(url) as connection:
        [(size,)] = connection.execute("select pg_database_size(current_database())").fetchall()
    return int(size)


def memory_of(url: str) -> str:
    """How large the buffers are, and whether the system keeps them in huge pages (`huge_pages = try`)."""
    with psycopg.connect(url) as connection:
        [(told,)] = connection.execute(MEMORY).fetchall()
    return str(told)


def measure_folder(large: Path, given: argparse.Namespace) -> Figures:
    """Against a small catalogue that is made for this, and removed.

    What is measured adds a few thousand manifests to the large one, under names that nobody used: it can be measured
    as often as wanted.
    """
    with make_folder() as small:
        fill_folder(small, make_shape(**SMALL))
        return compare_folders(small, large, given)


def compare_folders(small: Path, large: Path, given: argparse.Namespace) -> Figures:
    """Statements and operations; starts; vacuums; and the first seconds after a restart, with nothing in any cache."""
    shapes = [Shape(**json.loads((data / SHAPE).read_text())) for data in (small, large)]
    with ExitStack() as stack, progress.status("", refresh_per_second=2) as status:
        # Of the small one more buffers would stay empty, and are memory that the machine may not have.
        urls = [
            stack.enter_context(_running(small, buffers=None, warm=given.warm)),
            stack.enter_context(_running(large, buffers=given.buffers, warm=given.warm)),
        ]
        memories = dict(zip(("among 1,000", "among all"), map(memory_of, urls), strict=True))
        if len({memory.split()[-1] for memory in memories.values()}) > 1:
            raise SystemExit(f"huge pages for one of both only, {memories}: reserve more (vm.nr_hugepages), or none")
        logs = [data / "postgres/postgres.log" for data in (small, large)]
        places = list(zip(urls, shapes, logs, strict=True))
        compared = asyncio.run(_measure_statements(places, given, status.update))
        status.update("starts of a server over each, in turn")
        sides = list(zip(urls, (data / "server" for data in (small, large)), shapes, strict=True))
        lives = [[live(*side, seconds=given.seconds) for side in sides] for _ in range(given.starts)]
        watched = churn(urls[1], seconds=given.churn, tell=status.update)
        size = size_of(urls[1])
    small_life, large_life = map(median_life, zip(*lives, strict=True))
    return Figures(
        shapes[1], size, memories, *compared, small_life, large_life, watched, _restart(large, given.seconds)
    )


@contextmanager
def _running(data: Path, *, buffers: str | None, warm: bool) -> Iterator[str]:
    """The URL of a catalogue with the latest schema, and with as large buffers, as full, as they are wanted."""
    with PrivatePostgres(data) as postgres:
        change_settings(postgres.url(data), {"shared_buffers": buffers and f"'{buffers}'"})
    with PrivatePostgres(data) as postgres:
        url = postgres.url(data)
        schema.migrate(url)
        if warm:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("create extension if not exists pg_prewarm")
                connection.execute(READ_ALL)
        yield url


async def _measure_statements(
    places: Sequence[tuple[str, Shape, Path]], given: argparse.Namespace, tell: Callable[[str], None]
) -> tuple[list[Comparison], list[Comparison]]:
    async with open_sides(*places) as (small, large):
        await measure(small, large, rounds=given.rounds, only=given.only, pulled=PULLED * given.warm, tell=tell)
        return compare_operations(small, large), compare_statements(small, large)


def _restart(data: Path, seconds: float) -> list[Second]:
    """PostgreSQL and the server are new, and no page of a file is in memory."""
    shape = Shape(**json.loads((data / SHAPE).read_text()))
    forget_files(data)
    with PrivatePostgres(data) as postgres, serving(postgres.url(data), data / "server") as (server, _):
        return pull(server.port, shape, seconds=seconds)


def add_sizes(parser: argparse.ArgumentParser) -> None:
    for name, number in LARGE.items():
        parser.add_argument(f"--{name}", type=int, default=number)


def add_lengths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=20, help="of each operation, in each catalogue")
    parser.add_argument("--only", action="append", choices=sorted(operations()), help="may be repeated")
    parser.add_argument(
        "--buffers", metavar="SIZE", help="shared_buffers of the large one, such as 7GB; else as it is run"
    )
    parser.add_argument("--warm", action="store_true", help="first read everything into the buffers, and pull a while")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of pulls after a start")
    parser.add_argument("--churn", type=float, default=60, help="seconds in which tags are changed")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    filling, measuring, everything = (commands.add_parser(name) for name in ("fill", "measure", "all"))
    for command in (filling, measuring, everything):
        command.add_argument("--data", type=Path, required=True, metavar="DIR")
    for command in (filling, everything):
        add_sizes(command)
    for command in (measuring, everything):
        add_lengths(command)
    return parser.parse_args(arguments)


def run(given: argparse.Namespace) -> Figures | None:
    """Figures, where something was measured."""
    sizes = {name: getattr(given, name) for name in LARGE} if given.command != "measure" else {}
    if given.command == "measure":
        return measure_folder(given.data, given)
    if given.command == "fill":
        fill_folder(given.data, make_shape(**sizes))
        return None
    large = given.data / "large"
    try:
        fill_folder(large, make_shape(**sizes))
        return measure_folder(large, given)
    finally:
        shutil.rmtree(large, ignore_errors=True)


def main() -> int:
    """1 when something that has a bar misses it."""
    figures = run(parse_arguments())
    if figures is None:
        return 0
    print_figures(figures, Console(width=None if sys.stdout.isatty() else 120))
    return int(figures.misses)


if __name__ == "__main__":
    sys.exit(main())
