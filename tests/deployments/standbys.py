"""Real copies of a PostgreSQL: one that follows it by streaming replication, and one that is restored to an instant."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from distsql.embedded.accounts import server_account
from distsql.embedded.binaries import find_binaries
from tests.server.processes import children, wait_until


class Copy:
    """A base backup of a private PostgreSQL, to be started on a socket of its own."""

    def __init__(self, primary_url: str, folder: Path, *, name: str, backup: Sequence[str] = ()) -> None:
        self.cluster, self._sockets, self._binaries = folder / name / "cluster", folder / name[0], find_binaries()
        self.url = make_conninfo(primary_url, host=str(self._sockets))
        account = server_account(self.cluster)
        self._as = {"user": account.uid, "group": account.gid, "extra_groups": []} if os.geteuid() == 0 else {}
        for path in (self.cluster.parent, self._sockets, folder / name / "conf.d"):
            path.mkdir()
            if self._as:
                os.chown(path, account.uid, account.gid)
        known = conninfo_to_dict(primary_url)
        source = make_conninfo(**{key: known[key] for key in ("host", "port", "user", "password") if key in known})  # type: ignore[arg-type]
        command = [self._binaries.program("pg_basebackup"), "-D", self.cluster, "-d", source, "-c", "fast", *backup]
        subprocess.run(command, check=True, cwd="/", timeout=60, **self._as)  # type: ignore[call-overload]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **settings: str) -> None:
        settings = {"unix_socket_directories": str(self._sockets), "listen_addresses": "", **settings}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [self._binaries.program("postgres"), *options, "-D", self.cluster],
            cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._as,  # type: ignore[call-overload]
        )  # fmt: skip
        wait_until(self._answers, what="the copy's start")

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

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.cluster.parent)
        self._sockets.rmdir()


class Recovery(Copy):
    """What a backup and the log after it make of an instant: PostgreSQL's point-in-time recovery."""

    def restore_to(self, instant: datetime, *, log: Path) -> None:
        """Replays the log, of which something has to be later than the instant, and is a database of its own then."""
        signal_file = self.cluster / "recovery.signal"
        signal_file.touch()
        if self._as:
            shutil.chown(signal_file, self._as["user"], self._as["group"])  # type: ignore[call-overload]
        self.start(
            restore_command=f'cp "{log}/%f" "%p"',
            recovery_target_time=instant.isoformat(sep=" "),
            recovery_target_action="promote",
        )
        wait_until(self._is_restored, what="the recovery")

    def _is_restored(self) -> bool:
        with psycopg.connect(self.url, connect_timeout=2) as connection:
            return connection.execute("select pg_is_in_recovery()").fetchone() == (False,)


class Standby(Copy):
    """It follows, by streaming replication."""

    def __init__(self, primary_url: str, folder: Path) -> None:
        super().__init__(primary_url, folder, name="standby", backup=["-R"])
        self.start()

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
