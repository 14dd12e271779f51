"""One owner; killed owners, killed servers, and what they leave behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from distsql.embedded import PrivatePostgres, find_binaries
from distsql.embedded.accounts import server_account
from distsql.embedded.errors import ClusterInUseError
from distsql.embedded.homes import SOCKET_NAME, find_home
from distsql.embedded.logs import LARGEST, ServerLog
from distsql.embedded.process import LAUNCHER
from distsql.embedded.survivors import living_servers, read_postmaster

from .conftest import Owners, keep, needs_proc, run, select, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")


def test_a_second_owner_is_told_who_is_the_first(data: Path, owners: Owners) -> None:
    owner, url = owners.start(data)
    with pytest.raises(ClusterInUseError, match=f"in use by process {owner.pid}:"):
        PrivatePostgres(data).start()
    assert select(url, "select 1") == 1
    assert PrivatePostgres.url(data) == url
    assert PrivatePostgres.is_running(data)


def test_a_second_owner_in_the_same_process(data: Path) -> None:
    with PrivatePostgres(data), pytest.raises(ClusterInUseError, match=f"process {os.getpid()}:"):
        PrivatePostgres(data).start()
    with PrivatePostgres(data):
        pass


def test_a_copied_pointer_does_not_make_a_second_owner(data: Path) -> None:
    other = data.with_name("copy")
    other.mkdir()
    (other / "postgres").symlink_to(data / "postgres")
    with PrivatePostgres(data), pytest.raises(ClusterInUseError):
        PrivatePostgres(other).start()


@linux_only
def test_a_killed_owner_takes_its_server_along(data: Path, owners: Owners) -> None:
    owner, url = owners.start(data)
    keep(url, rows=1000)
    with psycopg.connect(url) as session:
        session.execute("insert into kept select 0")
        owner.kill()
        owner.wait()
        wait_until(lambda: not living_servers(data / "postgres" / "cluster"), seconds=10)
        session.close()
    assert "received fast shutdown request" in (data / "postgres" / "postgres.log").read_text()
    with PrivatePostgres(data):
        assert select(PrivatePostgres.url(data), "select count(*) from kept") == 1000


def test_the_next_start_does_not_wait_for_the_dying_server(data: Path, owners: Owners) -> None:
    owner, url = owners.start(data)
    keep(url, rows=3)
    owner.kill()
    owner.wait()
    with PrivatePostgres(data):  # at once: the old server may still be there
        assert select(PrivatePostgres.url(data), "select count(*) from kept") == 3


def test_the_server_outlives_the_thread_that_started_it(data: Path) -> None:
    server = PrivatePostgres(data)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    pid = read_postmaster(data / "postgres" / "cluster")
    assert select(PrivatePostgres.url(data), "select pg_sleep(0.3)") == ""
    assert read_postmaster(data / "postgres" / "cluster") == pid
    server.stop()


def test_a_killed_server_is_started_again(data: Path) -> None:
    cluster = data / "postgres" / "cluster"
    with PrivatePostgres(data):
        first = read_postmaster(cluster)
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: PrivatePostgres.is_running(data) and read_postmaster(cluster) != first)
        assert select(PrivatePostgres.url(data), "select 1") == 1


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_neither_stops_nor_keeps_the_server(data: Path) -> None:
    server = PrivatePostgres(data)
    server.start()
    child = os.fork()
    if child == 0:
        try:
            server.stop()
            signal.pause()
        finally:
            os._exit(1)
    try:
        assert select(PrivatePostgres.url(data), "select pg_sleep(0.1)") == ""
        server.stop()
        with PrivatePostgres(data):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def as_server_user(data: Path, command: list[str]) -> subprocess.Popen[bytes]:
    """A process that neither knows of its parent's death (signal 0) nor of us."""
    account = server_account(data / "postgres" / "cluster")
    numbers = map(str, (account.uid, account.gid, os.getpid(), 0))
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(LAUNCHER), *numbers, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )


@needs_proc
def test_an_orphan_is_stopped(data: Path) -> None:
    with PrivatePostgres(data):  # writes settings and makes the socket's folder
        pass
    orphan = as_server_user(data, [find_binaries().program("postgres"), "-D", str(data / "postgres" / "cluster")])
    wait_until(lambda: PrivatePostgres.is_running(data))
    threading.Thread(target=orphan.wait, daemon=True).start()  # in place of init, so that it doesn't stay a zombie
    with PrivatePostgres(data):
        assert orphan.wait(5) == 0
        assert select(PrivatePostgres.url(data), "select 1") == 1


@pytest.fixture(params=["reused", "zombie", "dead"])
def stale_pid(data: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    """The pid of something that is no server: another program of the same user, a zombie, nothing."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    process = as_server_user(data, [sleep, "60" if request.param == "reused" else "0"])
    if request.param == "zombie":
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    elif request.param == "reused":
        wait_until(lambda: b"sleep" in subprocess.check_output(["ps", "-o", "comm=", "-p", str(process.pid)]))
    else:
        process.wait()
    yield process.pid
    process.kill()
    process.wait()


@needs_proc
def test_a_stale_pid_file(data: Path, stale_pid: int) -> None:
    with PrivatePostgres(data):  # makes the socket's folder, which an earlier user of this cluster may have removed
        pass
    home = find_home(data)
    text = f"{stale_pid}\n{home.cluster}\n1700000000\n5432\n{home.socket_place}\n\n  1234567 3\nready   \n"
    home.write_file(home.cluster / "postmaster.pid", text, mode=0o600, uid=home.account.uid)
    home.write_file(home.socket_place / f"{SOCKET_NAME}.lock", text, mode=0o600, uid=home.account.uid)
    assert not PrivatePostgres.is_running(data)
    with PrivatePostgres(data):
        assert select(PrivatePostgres.url(data), "select 1") == 1


def test_the_log_can_not_fill_the_disk(data: Path) -> None:
    with PrivatePostgres(data):
        log = ServerLog(find_home(data))
        size = log.path.stat().st_size
        log.rotate()
        assert log.path.stat().st_size == size
        os.truncate(log.path, LARGEST + 1)
        log.rotate()
        assert log.path.with_suffix(".log.1").stat().st_size == LARGEST + 1
        assert log.path.with_suffix(".log.1").stat().st_mode & 0o777 == 0o600
        with pytest.raises(psycopg.Error):
            run(PrivatePostgres.url(data), "select nonsense")
        wait_until(lambda: "nonsense" in log.path.read_text())
        assert log.path.stat().st_size < 10_000
