"""Pairs of rounds: A, B, A, B. What the machine does meanwhile disturbs both of a pair alike, so the ratio within a
pair says more than two averages. CPU time per request is steadier still.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.load import Load, Pace
from benchmarks.operations import Operation
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

    @property
    def rate(self) -> float:
        """A second: requests."""
        return self.count / self.seconds


@dataclass(frozen=True, slots=True)
class Result:
    operation: Operation
    samples: dict[str, list[Sample]]
    """By the server's name, in the order of rounds."""

    def ratios(self, ours: str, theirs: str) -> list[float]:
        pairs = zip(self.samples[ours], self.samples[theirs], strict=True)
        return [our.rate / their.rate for our, their in pairs]

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

    def load_share(self, server: str) -> float:
        """What the load generator took of one core."""
        samples = self.samples[server]
        return sum(sample.load_cpu for sample in samples) / sum(sample.seconds for sample in samples)


def compare(
    operation: Operation, servers: Sequence[Server], pace: Pace, *, rounds: int, tell: Callable[[str], None]
) -> Result:
    samples: dict[str, list[Sample]] = {server.name: [] for server in servers}
    for server in servers:
        operation.check(server)
        tell(f"{operation.name}: {server.name}, warm-up")
        _measure(operation, server, Pace(pace.seconds / 2, pace.connections))
    for number in range(1, rounds + 1):
        for server in servers:
            tell(f"{operation.name}: {server.name}, round {number}")
            samples[server.name].append(_measure(operation, server, pace))
    return Result(operation, samples)


def _measure(operation: Operation, server: Server, pace: Pace) -> Sample:
    if operation.leaves_files:
        os.sync()  # what one server leaves to be written later isn't paid by the other, which waits for the disk
    began = time.time()
    server_cpu, load_cpu = server.cpu(), _load_cpu()
    load = operation.load(server, pace)
    sample = _sample(operation, load, server_cpu=server.cpu() - server_cpu, load_cpu=_load_cpu() - load_cpu)
    if operation.leaves_files:
        server.drop_files(since=began, at_least=operation.large)
    return sample


def _sample(operation: Operation, load: Load, *, server_cpu: float, load_cpu: float) -> Sample:
    count = load.body_bytes / operation.large if operation.large else float(load.requests)
    return Sample(count, load.seconds, server_cpu, load_cpu, load.body_bytes)


def _load_cpu() -> float:
    """Of this process and of the programs that it ran to their end; the servers still run, so they aren't in it."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
