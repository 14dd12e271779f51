"""`python -m benchmarks.scale`: what a request costs in a catalogue of any size, against one of 1,000 manifests.

    python -m benchmarks.scale fill --data DIR [--manifests 1000000 ...]   a private PostgreSQL with so much in it
    python -m benchmarks.scale measure --large DIR --small DIR      statements, operations, pages, start, memory

Both databases run at once and are asked in turn, so what else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Final

import psycopg
from rich.console import Console

from benchmarks.population import Shape, fill
from distsql.embedded import PrivatePostgres
from distsql.sql import schema

progress: Final = Console(stderr=True)
ROOM: Final = 14_000
"""Bytes of disk for each manifest, with all that comes with it: tables, indexes, and the log of writing them."""


def make_shape(*, tenants: int, repositories: int, manifests: int, tags: int) -> Shape:
    """`tags` in all. A hundredth of the repositories are acme's; acme/web has 2 % of the manifests, as a large one."""
    return Shape(
        tenants=tenants,
        repositories=repositories,
        manifests=manifests,
        events=manifests,
        acme=max(2, repositories // 100),
        web=manifests // 50,
        tagged=1,
        tags=max(1, tags // manifests),
        moves=1,
        days=4,
    )


def fill_folder(data: Path, shape: Shape) -> None:
    """A private PostgreSQL in this folder, with the latest schema, and filled."""
    with PrivatePostgres(data) as postgres:
        url = postgres.url(data)
        schema.migrate(url)
        _set(url, max_wal_size="'8GB'", checkpoint_timeout="'30min'")
        started = time.perf_counter()
        fill(url, shape, lambda line: progress.print(line, highlight=False, markup=False))
        _set(url, max_wal_size=None, checkpoint_timeout=None)
        progress.print(f"{time.perf_counter() - started:7.1f} s  in all, {size_of(url) / 1e9:.1f} GB")


def size_of(url: str) -> int:
    with psycopg.connect(url) as connection:
        [(size,)] = connection.execute("select pg_database_size(current_database())").fetchall()
    return int(size)


def _set(url: str, **settings: str | None) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in settings.items():
            change = f"reset {name}" if value is None else f"set {name} = {value}"
            connection.execute(f"alter system {change}".encode())
        connection.execute("select pg_reload_conf()")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    filling = commands.add_parser("fill")
    filling.add_argument("--data", type=Path, required=True, metavar="DIR")
    filling.add_argument("--tenants", type=int, default=10_000)
    filling.add_argument("--repositories", type=int, default=100_000)
    filling.add_argument("--manifests", type=int, default=1_000_000)
    filling.add_argument("--tags", type=int, default=5_000_000)
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    wanted = arguments.manifests * ROOM
    arguments.data.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(arguments.data).free < wanted:
        progress.print(f"{arguments.data}: {wanted / 1e9:.0f} GB of free disk are needed")
        return 2
    shape = make_shape(
        tenants=arguments.tenants,
        repositories=arguments.repositories,
        manifests=arguments.manifests,
        tags=arguments.tags,
    )
    fill_folder(arguments.data, shape)
    return 0


if __name__ == "__main__":
    sys.exit(main())
