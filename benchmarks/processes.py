"""What a server costs: CPU time and memory of all its processes, read from /proc (Linux).

A server is the process that was started and everything below it. A private PostgreSQL may have left that tree (another
session, another parent), so processes that name the server's folder on their command line belong to it as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICK: Final = os.sysconf("SC_CLK_TCK")
PROC: Final = Path("/proc")
KIB: Final = 1024
# clear_refs(5): "reset the peak resident set size to the process's current value", see proc(5).
RESET_PEAK: Final = "5"


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    name: str
    cpu: float
    """Seconds, with those of its children that ended: nothing is lost when a PostgreSQL backend goes."""

    @property
    def is_postgres(self) -> bool:
        return self.name == "postgres"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes resident now, and at most since `reset_peak`; PostgreSQL's apart, for its processes share pages."""

    own: int
    own_peak: int
    postgres: int

    @property
    def peak(self) -> int:
        return self.own_peak + self.postgres


def find_processes(root: int, folder: Path) -> list[Process]:
    """The server's processes: below `root`, or naming `folder`, or below such a one."""
    everyone = {process.pid: process for process in _read_all()}
    found = {pid for pid in everyone if pid == root or _names(pid, folder)} - {os.getpid()}
    before = 0
    while len(found) > before:
        before = len(found)
        found |= {process.pid for process in everyone.values() if process.parent in found}
    return [everyone[pid] for pid in sorted(found & everyone.keys())]


def read_cpu(root: int, folder: Path) -> float:
    """Seconds of CPU, user and system, that the server has taken so far."""
    return sum(process.cpu for process in find_processes(root, folder))


def read_memory(root: int, folder: Path) -> Memory:
    processes = find_processes(root, folder)
    own = [_read_sizes(process.pid, "status") for process in processes if not process.is_postgres]
    # Proportional: a page of PostgreSQL's shared buffers counts once, however many backends have touched it.
    shared = [_read_sizes(process.pid, "smaps_rollup") for process in processes if process.is_postgres]
    return Memory(
        own=sum(sizes.get("VmRSS", 0) for sizes in own),
        own_peak=sum(sizes.get("VmHWM", 0) for sizes in own),
        postgres=sum(sizes.get("Pss", 0) for sizes in shared),
    )


def reset_peak(root: int, folder: Path) -> None:
    for process in find_processes(root, folder):
        with suppress(ProcessLookupError):
            (PROC / str(process.pid) / "clear_refs").write_text(RESET_PEAK)


def _read_all() -> Iterator[Process]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended meanwhile
                yield _parse(int(entry.name), (entry / "stat").read_text())


def _parse(pid: int, stat: str) -> Process:
    # The name stands in parentheses and may hold anything; fields are counted from behind it.
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    ticks = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    return Process(pid, int(fields[1]), name, ticks / TICK)


def _names(pid: int, folder: Path) -> bool:
    with suppress(OSError):
        return os.fsencode(folder) in (PROC / str(pid) / "cmdline").read_bytes()
    return False


def _read_sizes(pid: int, file: str) -> dict[str, int]:
    """Lines like `VmRSS:   1234 kB`, in bytes."""
    with suppress(OSError):
        lines = (line.split() for line in (PROC / str(pid) / file).read_text().splitlines())
        return {words[0].rstrip(":"): int(words[1]) * KIB for words in lines if words[2:] == ["kB"]}
    return {}
