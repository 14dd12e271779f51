"""A real second PostgreSQL that follows the first: a copy, and streaming replication."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from distsql.embedded.accounts import server_account
from distsql.embedded.binaries import find_binaries
from tests.server.processes import children, wait_until


class Standby:
    """Of a private PostgreSQL, on a socket of its own."""

    def __init__(self, primary_url: str, folder: Path) -> None:
        self.cluster, self._sockets, self._binaries = folder / "standby" / "cluster", folder / "s", find_binaries()
        self.url = make_conninfo(primary_url, host=str(self._sockets))
        account = server_account(self.cluster)
        self._as = {"user": account.uid, "group": account.gid, "extra_groups": []} if os.geteuid() == 0 else {}
        for path in (self.cluster.parent, self._sockets, folder / "standby" / "conf.d"):
            path.mkdir()
            if self._as:
                os.chown(path, account.uid, account.gid)
        known = conninfo_to_dict(primary_url)
        source = make_conninfo(**{key: known[key] for key in ("host", "port", "user", "password") if key in known})  # type: ignore[arg-type]
        command = [self._binaries.program("pg_basebackup"), "-D", self.cluster, "-d", source, "-R", "-c", "fast"]
        subprocess.run(command, check=True, cwd="/", timeout=60, **self._as)  # type: ignore[call-overload]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        options = ["-c", f"unix_socket_directories={self._sockets}", "-c", "listen_addresses=", "-D", self.cluster]
        self._process = subprocess.Popen(
            [self._binaries.program("postgres"), *options],
            cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._as,  # type: ignore[call-overload]
        )  # fmt: skip
        wait_until(self._answers, what="the standby's start")

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=2):
            return True
        return False

    def stop(self) -> None:
        """At once, as a machine that is switched off."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)
            self._process = None

    def replay(self, *, on: bool) -> None:
        """Whether it takes over what arrives."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("select pg_wal_replay_resume()" if on else "select pg_wal_replay_pause()")
            if not on:
                wait_until(
                    lambda: connection.execute("select pg_get_wal_replay_pause_state()").fetchone() == ("paused",),
                    what="the pause",
                )

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Its processes say nothing, and their sockets stay open."""
        assert self._process is not None
        frozen = [self._process.pid, *children(self._process.pid)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.cluster.parent)
