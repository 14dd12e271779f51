"""`python -m benchmarks.scaling`: what a request costs with one server, and with several on one catalogue.

Each server is asked at the same rate, by a client of its own that takes next to no CPU: so several servers have several
times the requests, as they would behind a balancer, and none is short of CPU. Counted is the CPU of the servers, and of
their PostgreSQL, for each request. There are two deployments side by side, of one server and of several, each with a
PostgreSQL of its own, which are asked in turn: what else the machine does meets both. Servers that share nothing but
the database cost the same however many there are.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import make_folder
from benchmarks.costs import postgres_cpu
from benchmarks.fleets import Member, running_fleet
from benchmarks.pacing import Paced, run_paced
from benchmarks.soak import IMAGE, Client, Told

BAR: Final = 1.1
CONNECTIONS: Final = 8
PUT: Final = "manifest PUT"
OPERATIONS: Final = ("manifest GET by tag", PUT)


class Image(NamedTuple):
    """Where it is asked for, and the manifest that is put there under new digests."""

    path: str
    manifest: Path


class Cost(NamedTuple):
    """Microseconds of CPU for each request, and how many there were in a second for each server."""

    servers: float
    postgres: float
    rate: float

    @property
    def together(self) -> float:
        """Of the servers and of PostgreSQL."""
        return self.servers + self.postgres


class Deployment:
    """Servers on one catalogue, and an image in a repository for each of them."""

    def __init__(self, members: Sequence[Member], folder: Path) -> None:
        self._members, self._folder = members, folder
        self._pushed = itertools.count(1_000_000, 1_000_000)
        self._images = asyncio.run(_push_images(members, folder))

    def measure(self, operation: str, *, seconds: float, pause_ms: int, times: int = 1) -> Cost:
        """What a request costs when every server is asked for it, as often as usual or several times as often."""

        def ask(member: Member, image: Image) -> Paced:
            return run_paced(
                member.url + image.path,
                seconds=seconds,
                connections=CONNECTIONS * times,
                pause_ms=pause_ms,
                put=(str(image.manifest), IMAGE, str(next(self._pushed))) if operation == PUT else (),
            )

        own, postgres, began = *self._cpu(), time.perf_counter()
        with ThreadPoolExecutor(len(self._members)) as clients:
            requests = sum(load.requests for load in clients.map(ask, self._members, self._images))
        taken, (own_after, postgres_after) = time.perf_counter() - began, self._cpu()
        return Cost(
            (own_after - own) * 1e6 / requests,
            (postgres_after - postgres) * 1e6 / requests,
            requests / taken / len(self._members),
        )

    def rest(self, seconds: float) -> float:
        """Milliseconds of CPU that each second takes when nobody asks, for each server with its share of PostgreSQL."""
        before = sum(self._cpu())
        time.sleep(seconds)
        return (sum(self._cpu()) - before) * 1e3 / seconds / len(self._members)

    def _cpu(self) -> tuple[float, float]:
        return sum(member.cpu() for member in self._members), postgres_cpu(self._folder)


async def _push_images(members: Sequence[Member], folder: Path) -> list[Image]:
    images = []
    for number, member in enumerate(members):
        told = Told()
        client = Client(number, [member.url], told)
        await client.push()
        await client.close()
        [((name, tag), (payload, _))] = told.images.items()
        file = folder / f"manifest-{number}.json"
        file.write_text(json.dumps({**json.loads(payload), "annotations": {"number": "NUMBER"}}))
        images.append(Image(f"/v2/{name}/manifests/{tag}", file))
    return images


@contextmanager
def deployments(folder: Path, servers: int) -> Iterator[tuple[Deployment, Deployment]]:
    """One server by itself, and several."""
    with ExitStack() as stack:
        made = []
        for number in (1, servers):
            place = folder / f"of-{number}"
            place.mkdir(mode=0o755)
            fleet, _ = stack.enter_context(running_fleet(place, number))
            made.append(Deployment(fleet, place))
        yield made[0], made[1]


def measure(
    one: Deployment, several: Deployment, operation: str, *, servers: int, rounds: int, seconds: float, pause_ms: int
) -> list[tuple[Cost, Cost, Cost]]:
    """What a request costs with one, with several, and with one that has as many requests as those together.

    Rounds are in turn, after one to warm up.
    """
    found = []
    for _ in range(rounds + 1):
        single = one.measure(operation, seconds=seconds, pause_ms=pause_ms)
        each = several.measure(operation, seconds=seconds, pause_ms=pause_ms)
        found.append((single, each, one.measure(operation, seconds=seconds, pause_ms=pause_ms, times=servers)))
    return found[1:]


def ratio(found: Sequence[tuple[Cost, Cost, Cost]]) -> list[float]:
    """What a request costs with several servers, of that with one, in each round."""
    return [several.together / one.together for one, several, _ in found]


def add_rows(table: Table, operation: str, servers: int, found: Sequence[tuple[Cost, Cost, Cost]]) -> None:
    """One line for each way of asking."""
    names = ("1", str(servers), f"1, {servers} times as often")
    for position, name in enumerate(names):
        costs = [each[position] for each in found]
        ratios = [each[position].together / each[0].together for each in found]
        table.add_row(
            operation, name, *(f"{median(figures):.0f}" for figures in zip(*costs, strict=True)),
            f"{median(cost.together for cost in costs):.0f}",
            f"{median(ratios):.0%} ({min(ratios):.0%} - {max(ratios):.0%})" if position else "",
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--pause", type=int, default=40, metavar="MS", help=f"of each of {CONNECTIONS} connections")
    parser.add_argument("--only", choices=OPERATIONS)
    chosen = parser.parse_args()
    table = Table("operation", "servers", "their CPU, us", "PostgreSQL's", "requests/s each", "together", "of one")
    console, ratios = Console(width=None if sys.stdout.isatty() else 120), []
    with make_folder() as folder, deployments(folder, chosen.servers) as (one, several):
        for operation in [chosen.only] if chosen.only else OPERATIONS:
            found = measure(
                one, several, operation,
                servers=chosen.servers, rounds=chosen.rounds, seconds=chosen.seconds, pause_ms=chosen.pause,
            )  # fmt: skip
            ratios.append(median(ratio(found)))
            add_rows(table, operation, chosen.servers, found)
        rests = [each.rest(4 * chosen.seconds) for each in (one, several)]
    console.print(table)
    console.print("ms of CPU a second at rest, for each server: {:.1f} of 1, {:.1f} of several".format(*rests))
    return int(max(ratios) > BAR)


if __name__ == "__main__":
    sys.exit(main())
