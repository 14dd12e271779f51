"""A worker for each core: what stays on one, and what goes where there is room."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from distsql import cores
from tests.server.conftest import Start
from tests.server.processes import Serve, distsql, wait_until
from tests.server.pushes import image, push

MADE = image("cores")
EVERY = os.sched_getaffinity(0)
AUTO = {"DISTSQL_WORKERS": "auto"}
Cores = frozenset[int]


@pytest.fixture
def both() -> Iterator[Cores]:
    """The two cores that everything may run on which the test starts."""
    if cores.count_cores() < 2:
        pytest.skip("one core has nothing to be divided")
    two = frozenset(sorted(EVERY)[:2])
    os.sched_setaffinity(0, two)
    yield two
    os.sched_setaffinity(0, EVERY)


def homes(server: Serve) -> set[Cores]:
    """Where the main threads of its workers run."""
    return {frozenset(os.sched_getaffinity(pid)) for pid in server.workers()}


def threads(pid: int) -> list[Cores]:
    return [frozenset(os.sched_getaffinity(int(task.name))) for task in Path(f"/proc/{pid}/task").iterdir()]


def policies(server: Serve) -> set[int]:
    """How the threads of its workers are scheduled."""
    tasks = [task for pid in server.workers() for task in Path(f"/proc/{pid}/task").iterdir()]
    return {os.sched_getscheduler(int(task.name)) for task in tasks}


def backends(url: str) -> set[Cores]:
    """Where the processes of PostgreSQL run that answer workers."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "select pid from pg_stat_activity where application_name = 'distsql' and datname = current_database()"
        ).fetchall()
    return {frozenset(os.sched_getaffinity(pid)) for (pid,) in found}


def use(server: Serve, number: int) -> None:
    """Pushes over connections of their own, so that each worker has most likely had some."""
    for each in range(number):
        with server.client() as client:
            push(client, f"acme/web{each}", "latest", MADE)


@pytest.mark.slow
def test_each_core_has_a_worker(start_serve: Start, place: Path, both: Cores) -> None:
    """With its threads and the private PostgreSQL's processes; one that takes another's place takes its core."""
    catalogue = ("--data", str(place / "data"))
    server = start_serve(catalogue, env=AUTO)
    apart = {frozenset({core}) for core in both}
    wait_until(lambda: homes(server) == apart, what="two workers")
    use(server, 16)
    assert both in {cores for pid in server.workers() for cores in threads(pid)}, "those that hash and write"
    assert policies(server) == {os.SCHED_BATCH}, "who is woken interrupts nobody"
    url = distsql("database-url", *catalogue).stdout.strip()
    assert backends(url) == apart

    killed = server.workers()[0]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in server.workers() and homes(server) == apart, what="another worker")


@pytest.mark.slow
def test_somebody_elses_postgresql_stays_where_it_is(
    start_serve: Start, catalogue: tuple[str, ...], both: Cores
) -> None:
    server = start_serve(catalogue, env=AUTO)
    wait_until(lambda: homes(server) == {frozenset({core}) for core in both}, what="two workers")
    use(server, 8)
    assert backends(catalogue[1]) == {frozenset(EVERY)}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--workers", 1), ("--workers", 3), ("--storage", "memory:")])
def test_any_other_number_goes_where_there_is_room(
    start_serve: Start, catalogue: tuple[str, ...], both: Cores, arguments: tuple[object, ...]
) -> None:
    """Bytes in memory are one process's own."""
    server = start_serve(catalogue, *arguments, env=AUTO)
    expected = arguments[1] if isinstance(arguments[1], int) else 1
    wait_until(lambda: len(server.workers()) == expected, what="all workers")
    assert homes(server) == {both}
    assert policies(server) == {os.SCHED_BATCH}
