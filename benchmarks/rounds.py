"""Pairs of rounds: A, B, A, B. What the machine does meanwhile disturbs both of a pair alike, so the ratio within a
pair says more than two averages. CPU time per request is steadier still.
"""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, NamedTuple

from benchmarks.load import Latencies, Load, Pace
from benchmarks.operation import Operation
from benchmarks.processes import TICK
from benchmarks.servers import Server


@dataclass(frozen=True, slots=True)
class Sample:
    """One counted round of one server."""

    count: float
    """Requests; of large bodies the part that was done counts too."""
    seconds: float
    server_cpu: float
    load_cpu: float
    body_bytes: int
    latencies: Latencies

    @property
    def rate(self) -> float:
        """A second: requests."""
        return self.count / self.seconds

    @property
    def cpu(self) -> float:
        """Seconds for one request, of all processes of the server. At least one tick is counted for all of them."""
        return max(self.server_cpu, 1 / TICK) / self.count


class Figure(NamedTuple):
    """What is compared. `gain` is how many times better the first sample is than the second."""

    name: str
    gain: Callable[[Sample, Sample], float]


RATE: Final = Figure("requests/s", lambda ours, theirs: ours.rate / theirs.rate)
FIGURES: Final = (
    RATE,
    Figure("CPU", lambda ours, theirs: theirs.cpu / ours.cpu),
    Figure("p50", lambda ours, theirs: theirs.latencies.p50 / ours.latencies.p50),
    Figure("p99", lambda ours, theirs: theirs.latencies.p99 / ours.latencies.p99),
)


@dataclass(frozen=True, slots=True)
class Result:
    operation: Operation
    samples: dict[str, list[Sample]]
    """By the server's name, in the order of rounds."""

    def ratios(self, ours: str, theirs: str, figure: Figure = RATE) -> list[float]:
        """Of each pair of rounds: above 1 is better."""
        pairs = zip(self.samples[ours], self.samples[theirs], strict=True)
        return [figure.gain(our, their) for our, their in pairs]

    def rate(self, server: str) -> float:
        """Median of requests/s; of large bodies MB/s."""
        rate = median(sample.rate for sample in self.samples[server])
        return rate * self.operation.large / 1e6 if self.operation.large else rate

    @property
    def unit(self) -> str:
        return "MB/s" if self.operation.large else "/s"

    def cpu(self, server: str) -> float:
        """Microseconds for one request (or large body), over all rounds: /proc counts in hundredths of a second."""
        samples = self.samples[server]
        return 1e6 * sum(sample.server_cpu for sample in samples) / sum(sample.count for sample in samples)

    def latencies(self, server: str) -> Latencies:
        """Medians of the rounds'."""
        return Latencies(*map(median, zip(*(sample.latencies for sample in self.samples[server]), strict=True)))

    def load_share(self, server: str) -> float:
        """What the load generator took of one core."""
        samples = self.samples[server]
        return sum(sample.load_cpu for sample in samples) / sum(sample.seconds for sample in samples)


def compare(
    operation: Operation,
    servers: Sequence[Server],
    pace: Pace,
    *,
    rounds: int,
    tell: Callable[[str], None],
    warm_up: bool = True,
) -> Result:
    samples: dict[str, list[Sample]] = {server.name: [] for server in servers}
    pace = Pace(pace.seconds, operation.connections or pace.connections)
    for server in servers:
        tell(f"{operation.name}: {server.name}, warm-up")
        operation.check(server)
        if warm_up:
            _measure(operation, server, Pace(pace.seconds / 2, pace.connections))
    for number in range(1, rounds + 1):
        for server in servers:
            tell(f"{operation.name}: {server.name}, round {number}")
            samples[server.name].append(_measure(operation, server, pace))
    return Result(operation, samples)


def _measure(operation: Operation, server: Server, pace: Pace) -> Sample:
    operation.prepare(server)
    if operation.leaves:
        # What one server leaves to be written later isn't paid by the other, which waits for the disk. Only of their
        # own file system: where that is in memory there is nothing to wait for.
        subprocess.run(["sync", "--file-system", server.folder], check=True)
    began = time.time()
    server_cpu, load_cpu = server.cpu(), _load_cpu()
    load = operation.load(server, pace)
    sample = _sample(operation, load, server_cpu=server.cpu() - server_cpu, load_cpu=_load_cpu() - load_cpu)
    if operation.leaves:
        server.drop_files(since=began, at_least=operation.leaves)
    return sample


def _sample(operation: Operation, load: Load, *, server_cpu: float, load_cpu: float) -> Sample:
    count = load.body_bytes / operation.large if operation.large else float(load.requests)
    return Sample(count, load.seconds, server_cpu, load_cpu, load.body_bytes, load.latencies)


def _load_cpu() -> float:
    """Of this process and of the programs that it ran to their end; the servers still run, so they aren't in it."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
