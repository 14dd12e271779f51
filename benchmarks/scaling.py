"""`python -m benchmarks.scaling`: what a request costs with one server, and with several on the same catalogue.

CPU of the servers and of PostgreSQL for each manifest GET by tag, at the same number of requests at once. Servers that
share nothing but the database cost the same however many there are.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import make_folder
from benchmarks.costs import postgres_cpu
from benchmarks.fleets import Member, running_fleet
from benchmarks.soak import Client, Told

AT_ONCE: Final = 12


class Cost(NamedTuple):
    """Microseconds of CPU for each request."""

    servers: float
    postgres: float


async def _ask(url: str, path: str, times: int) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for _ in range(times):
            answer = await client.get(path)
            answer.raise_for_status()


async def _measure(members: Sequence[Member], folder: Path, path: str, requests: int) -> Cost:
    own, postgres = sum(member.cpu() for member in members), postgres_cpu(folder)
    each = requests // AT_ONCE
    await asyncio.gather(*(_ask(members[number % len(members)].url, path, each) for number in range(AT_ONCE)))
    spent = sum(member.cpu() for member in members) - own, postgres_cpu(folder) - postgres
    return Cost(*(seconds * 1_000_000 / (each * AT_ONCE) for seconds in spent))


async def measure(fleet: Sequence[Member], folder: Path, *, rounds: int, requests: int) -> tuple[Cost, Cost]:
    """Medians with one server and with all of them, of rounds in turn after one to warm up."""
    told = Told()
    client = Client(0, [fleet[0].url], told)
    await client.push()
    await client.close()
    [(name, tag)] = told.images
    path = f"/v2/{name}/manifests/{tag}"
    measured = [
        [await _measure(members, folder, path, requests) for members in (fleet[:1], fleet)] for _ in range(rounds + 1)
    ]
    one, all_of_them = (
        Cost(*(median(figures) for figures in zip(*each, strict=True))) for each in zip(*measured[1:], strict=True)
    )
    return one, all_of_them


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2400, help="of a round")
    arguments = parser.parse_args()
    with make_folder() as folder, running_fleet(folder, arguments.servers) as (fleet, _):
        costs = asyncio.run(measure(fleet, folder, rounds=arguments.rounds, requests=arguments.requests))
    table = Table("servers", "their CPU, us a request", "PostgreSQL's", "together", "of one")
    for servers, cost in zip((1, arguments.servers), costs, strict=True):
        table.add_row(
            str(servers), f"{cost.servers:.0f}", f"{cost.postgres:.0f}", f"{sum(cost):.0f}",
            f"{sum(cost) / sum(costs[0]):.0%}",
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
