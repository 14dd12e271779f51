"""`distsql serve` over a catalogue of any size: how soon it answers, how large it gets, and how a restart goes."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks.clients import Script, expect, request, run_scripts
from benchmarks.fleets import Member
from benchmarks.load import ticks
from benchmarks.population import Shape
from benchmarks.processes import read_memory

MIB: Final = 1 << 20
CLIENTS: Final = 16


class Life(NamedTuple):
    """Of one start: seconds until it answered, of them CPU; MiB of its processes before and after many requests."""

    ready_s: float
    cpu_s: float
    fresh_mib: float
    used_mib: float


class Second(NamedTuple):
    """What was answered in one second: requests, and milliseconds."""

    number: int
    requests: int
    p50: float
    p99: float


@contextmanager
def serving(url: str, folder: Path) -> Iterator[tuple[Member, float]]:
    """A server, and the seconds from its command to its being ready."""
    folder.mkdir(exist_ok=True)
    # A machine that is paused in the middle of a statement goes on with it.
    patient = {"DISTSQL_STATEMENT_TIMEOUT": "1h"}
    server = Member(["--database-url", url, "--storage", (folder / "bytes").as_uri()], folder, environment=patient)
    server.log.unlink(missing_ok=True)
    started = time.perf_counter()
    server.start()
    try:
        server.wait_ready()
        yield server, time.perf_counter() - started
    finally:
        server.stop()


def live(url: str, folder: Path, shape: Shape, *, seconds: float) -> Life:
    """Starts a server, and pulls from everywhere in the catalogue."""
    with serving(url, folder) as (server, ready):
        cpu, fresh = server.cpu(), _size(server, folder)
        pull(server.port, shape, seconds=seconds)
        return Life(ready, cpu, fresh / MIB, _size(server, folder) / MIB)


def pull(port: int, shape: Shape, *, seconds: float) -> list[Second]:
    """Manifests by tag, each time another of any tenant's; second by second."""
    answered: list[tuple[float, float]] = []
    began = time.perf_counter()

    def script() -> Script:
        for _ in ticks(seconds):
            repository, tag = shape.place(random.randrange(shape.web + 1, shape.manifests))
            sent = time.perf_counter()
            expect((yield request("GET", f"/v2/{repository}/manifests/{tag}")), 200, f"GET of {repository}:{tag}")
            answered.append((time.perf_counter() - began, time.perf_counter() - sent))

    run_scripts(port, [script() for _ in range(CLIENTS)])
    by_second: dict[int, list[float]] = {}
    for at, took in answered:
        by_second.setdefault(int(at), []).append(1000 * took)
    return [Second(number, len(took), *_percentiles(took)) for number, took in sorted(by_second.items())]


def forget_files(folder: Path) -> None:
    """Out of the system's cache, as after a restart of the machine. What isn't written yet stays, so that is first."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def median_life(lives: Sequence[Life]) -> Life:
    return Life(*map(median, zip(*lives, strict=True)))


def _percentiles(took: list[float]) -> tuple[float, float]:
    ordered = sorted(took)
    return ordered[len(ordered) // 2], ordered[int(0.99 * (len(ordered) - 1))]


def _size(server: Member, folder: Path) -> int:
    return read_memory(server.pid, folder / "none of it names this").own
