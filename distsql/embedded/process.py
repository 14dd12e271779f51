"""PostgreSQL's programs as processes of ours: one that runs to its end, and the server, which is kept running."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from distsql.embedded.errors import ServerFailedError
from distsql.errors import EmbeddedPostgresError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distsql.embedded.accounts import Account
    from distsql.embedded.logs import ServerLog

LAUNCHER: Final = Path(__file__).with_name("launcher.py")
LONGEST_RUN: Final = 600.0
ROTATE_EVERY: Final = 30.0
FAST_STOP: Final = 60.0
LAST_RESORT: Final = 15.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0

# Nothing else passes: PG* would change the server, and secrets of ours are none of its business.
PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")

logger = logging.getLogger(__name__)


def run_program(command: Sequence[str], account: Account, *, says: str = "") -> None:
    """Run a program to its end, with `says` as its input. Raises ServerFailedError with the end of its output."""
    try:
        done = subprocess.run(  # noqa: S603 - arguments are paths and constants of ours
            _launched(command, account, death_signal=signal.SIGTERM),
            input=says.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            cwd="/",
            check=False,
            timeout=LONGEST_RUN,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{command[0]} didn't end within {LONGEST_RUN:.0f} s: look for a hanging disk, then try again"
        raise ServerFailedError(message) from error
    if done.returncode:
        output = done.stdout.decode("utf-8", "replace").strip()[-2000:]
        message = f"{command[0]} failed with status {done.returncode}; mend what it says and try again:\n{output}"
        raise ServerFailedError(message)


def _launched(command: Sequence[str], account: Account, *, death_signal: int) -> list[str]:
    numbers = (account.uid, account.gid, os.getpid(), int(death_signal))
    return [sys.executable, "-I", "-S", str(LAUNCHER), *map(str, numbers), *command]


def _environment() -> dict[str, str]:
    return {"LC_ALL": "C", **{name: os.environ[name] for name in PASSED_ON if name in os.environ}}


class ServerProcess:
    """The postmaster, in the care of a thread of its own.

    Linux ties the death signal to the *thread* that started a process: this one lives as long as the server, whichever
    thread asked for it. It also starts the server again should it die without having been asked to.
    """

    def __init__(self, command: Sequence[str], account: Account, *, log: ServerLog, mend: Callable[[], None]) -> None:
        self._command = _launched(command, account, death_signal=signal.SIGINT)
        self._log = log
        self._mend = mend
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        self._spawned, self._lasting, self._stopping, self._ended = (threading.Event() for _ in range(4))

    def start(self) -> None:
        """Start the server; it isn't ready yet. Raises OSError when there can be no process."""
        threading.Thread(target=self._keep, name="distsql-postgres", daemon=True).start()
        self._spawned.wait()
        if self._failure is not None:
            raise self._failure
        threading.Thread(target=self._tend_log, name="distsql-postgres-log", daemon=True).start()

    @property
    def pid(self) -> int | None:
        """Of the current postmaster."""
        return self._process.pid if self._process else None

    @property
    def has_ended(self) -> bool:
        """Whether there is no server, and none will come."""
        return self._ended.is_set()

    def keep_alive(self) -> None:
        """From now on (it was ready once), an unexpected end is followed by a new start."""
        self._lasting.set()

    def stop(self) -> None:
        """Fast shutdown: sessions end, the data are written. Raises ServerFailedError when not even SIGQUIT helps."""
        self._stopping.set()
        for sent, patience in ((signal.SIGINT, FAST_STOP), (signal.SIGQUIT, LAST_RESORT)):
            if self._process is not None:
                self._process.send_signal(sent)
            if self._ended.wait(patience):
                return
        message = f"the private PostgreSQL (process {self.pid}) doesn't stop; see {self._log.path}, then kill it"
        raise ServerFailedError(message)

    def _keep(self) -> None:
        pause = FIRST_PAUSE
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                status = self._run()
                if self._stopping.is_set() or not self._lasting.is_set():
                    break
                pause = FIRST_PAUSE if time.monotonic() - began > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
                logger.error(
                    "the private PostgreSQL ended (status %s), starting it again; see %s", status, self._log.path
                )
                if self._stopping.wait(pause):
                    break
                self._try_to_mend()
        finally:
            self._ended.set()
            self._spawned.set()

    def _run(self) -> int | None:
        """One life of the server; its exit status, None when it didn't come to life."""
        try:
            descriptor = self._log.open()
            try:
                process = subprocess.Popen(  # noqa: S603 - arguments are paths and constants of ours
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=descriptor,
                    stderr=descriptor,
                    env=_environment(),
                    cwd="/",
                )
            finally:
                os.close(descriptor)
        except OSError as error:
            self._failure = error
            return None
        self._process = process
        self._spawned.set()
        if self._stopping.is_set():  # stop() may have signalled the process before this one
            process.send_signal(signal.SIGINT)
        return process.wait()

    def _try_to_mend(self) -> None:
        try:
            self._mend()
        except (EmbeddedPostgresError, OSError) as error:
            logger.error("the private PostgreSQL can't be started again yet: %s", error)  # noqa: TRY400 - no traceback

    def _tend_log(self) -> None:
        while not self._ended.wait(ROTATE_EVERY):
            try:
                self._log.rotate()
            except OSError as error:
                logger.warning("the log %s can't be rotated: %s", self._log.path, error)
