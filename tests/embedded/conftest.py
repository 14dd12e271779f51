"""Folders that any user can enter, ready-made clusters, and owners in processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

import distsql
from distsql.embedded import PrivatePostgres
from distsql.embedded.survivors import HAS_PROC, living_servers
from tests.places import make_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OWNER = """
import sys, time
from pathlib import Path
from distsql.embedded import PrivatePostgres
print(PrivatePostgres(Path(sys.argv[1]), system_dir=Path(sys.argv[2])).start(), flush=True)
time.sleep(120)
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
needs_proc = pytest.mark.skipif(not HAS_PROC, reason="needs /proc")


def select(url: str, query: str) -> object:
    """The first column of the first row."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def keep(url: str, *, rows: int) -> None:
    """Write a table `kept` of so many rows, whatever an earlier test left."""
    run(url, f"drop table if exists kept; create table kept as select generate_series(1, {rows})")


def wait_until(condition: Callable[[], bool], *, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen in time"
        time.sleep(0.01)


@pytest.fixture
def place() -> Iterator[Path]:
    folder = make_place("dsql-")
    yield folder
    leftovers = [pid for cluster in folder.rglob("cluster") if cluster.is_dir() for pid in living_servers(cluster)]
    shutil.rmtree(folder)
    assert not leftovers


class Shelf:
    """A data folder with a cluster, lent to one test after the other: initdb and copies are slow."""

    def __init__(self) -> None:
        self.folder = make_place("dsql-")
        self._home = self.folder / "postgres"

    def lend(self, data: Path) -> None:
        if not self._home.exists():
            with PrivatePostgres(self.folder):
                pass
        data.mkdir()
        self._home.rename(data / "postgres")

    def take_back(self, place: Path) -> None:
        """Wherever in the place the test has moved it to."""
        for cluster in list(place.rglob("cluster")):
            if not self._home.exists() and not cluster.parent.is_symlink() and not living_servers(cluster):
                cluster.parent.rename(self._home)
        (self._home / "conf.d" / "90-local.conf").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()
    yield shelf
    shutil.rmtree(shelf.folder)


@pytest.fixture
def data(place: Path, shelf: Shelf, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A data folder with a cluster that was stopped; tables of other tests may be in it."""
    shelf.lend(place / "data")
    failed = request.session.testsfailed
    yield place / "data"
    if request.session.testsfailed == failed:  # otherwise it may be damaged: the next test gets a new one
        shelf.take_back(place)


class Owners:
    """Starts `distsql serve`-like processes, and ends them."""

    def __init__(self, system_dir: Path) -> None:
        self.system_dir = system_dir
        self._stack = ExitStack()

    def start(self, data: Path) -> tuple[subprocess.Popen[str], str]:
        """The process and the URL of its server."""
        process = self.begin(data)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    def begin(self, data: Path) -> subprocess.Popen[str]:
        root = str(Path(distsql.__file__).parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(data), str(self.system_dir)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._stack.callback(self._end, process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def owners(place: Path) -> Iterator[Owners]:
    owners = Owners(place / "system")
    yield owners
    owners.close()
    for cluster in place.rglob("cluster"):
        wait_until(lambda cluster=cluster: not living_servers(cluster))  # type: ignore[misc]
