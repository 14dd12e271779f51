"""On which of the machine's cores a worker's threads run and the processes of PostgreSQL that work for it, and when.

A request is handed from a worker to a process of PostgreSQL, and back. Who is handed something on another core wakes up
later than on the same one, by far where the machine is a virtual one. So where each core has a worker, whatever answers
a request stays on one of them. What works for long on its own, such as a thread that hashes, goes where there is room.

There, who is woken waits until whoever is at work sleeps: several requests have come by then, and go on together, under
one statement and one wake-up. Both together answer half as many requests again (docs/performance.md).
"""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

_MOST_WORKERS: Final = 4
_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")

_everywhere: Final = frozenset(os.sched_getaffinity(0) if sys.platform == "linux" else range(os.cpu_count() or 1))


class _Home:
    """Of this process: affinity is a thing of processes, and so is what they remember of it."""

    cores: frozenset[int] = frozenset()
    postgres: bool = False
    lock: int = -1


def count_cores() -> int:
    """So many cores' time this process may take: by the cores that it may run on, and by its container's quota."""
    return max(1, min(len(_everywhere), int(_read_quota())))


def _read_quota() -> float:
    try:
        quota, period = _QUOTA.read_text().split()
        return float(quota) / float(period) + 0.5  # "max" is no number
    except (OSError, ValueError):
        return len(_everywhere)


def suggest_workers() -> int:
    """One for each core; of many cores some are left to PostgreSQL and to others, who asks for more may have them."""
    return min(count_cores(), _MOST_WORKERS)


def settle(folder: Path, *, workers: int, postgres: bool) -> None:
    """Gives this worker a core of its own, where each has one of the ``workers``, before it starts any thread.

    ``folder`` is where the workers of one `serve` tell each other what they took; a core comes free with its worker's
    end. ``postgres``: whether PostgreSQL's processes are ours to move as well.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError):  # some sandboxes know nothing of it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # nobody who is woken interrupts
    if not 1 < workers == count_cores() == len(_everywhere):
        return
    for core in sorted(_everywhere):
        lock = os.open(folder / f"core-{core}", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        _Home.cores, _Home.postgres, _Home.lock = frozenset({core}), postgres, lock
        os.sched_setaffinity(0, _Home.cores)
        return


def leave() -> None:
    """Lets the thread that calls it run on any core: threads begin on that of who started them."""
    if _Home.cores:
        os.sched_setaffinity(0, _everywhere)


def bring_along(pid: int) -> None:
    """Has a process of PostgreSQL, that of a new connection, run on this worker's core."""
    if _Home.postgres:
        with suppress(OSError):  # it has ended already, or is another user's
            os.sched_setaffinity(pid, _Home.cores)
