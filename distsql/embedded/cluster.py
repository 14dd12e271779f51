"""A PostgreSQL of our own below a data folder, from its first start to its stop."""

from __future__ import annotations

import atexit
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from distsql.embedded.choices import choose_binaries
from distsql.embedded.creations import create_cluster, renew_password
from distsql.embedded.errors import ClusterAccessError, NoClusterError, ServerFailedError
from distsql.embedded.homes import SYSTEM_DIR, Home, find_home, open_home
from distsql.embedded.locks import OwnerLock
from distsql.embedded.logs import ServerLog
from distsql.embedded.process import ServerProcess
from distsql.embedded.settings import write_settings
from distsql.embedded.sockets import prepare_socket_folder, remove_short_folder
from distsql.embedded.survivors import clear_survivors, is_serving, read_postmaster

if TYPE_CHECKING:
    from types import TracebackType

    from distsql.embedded.binaries import Binaries

LONGEST_START: Final = 300.0  # recovery after a crash may take its time
POLL: Final = 0.005


class PrivatePostgres:
    """The private PostgreSQL of one data folder, which belongs to the process that starts it and stops with it.

    Its methods block (a first start takes about a second): call them from a thread when an event loop runs. A failed
    start leaves nothing running. `system_dir` is for root, where the server's user can't enter the data folder.
    """

    def __init__(self, data_dir: Path, binaries: Binaries | None = None, *, system_dir: Path = SYSTEM_DIR) -> None:
        self._data_dir = data_dir
        self._given = binaries
        self._system_dir = system_dir
        self._home: Home | None = None
        self._lock: OwnerLock | None = None
        self._process: ServerProcess | None = None
        self._owner = os.getpid()

    @staticmethod
    def url(data_dir: Path) -> str:
        """The owner's URL of the cluster below this data folder, whether it runs or not.

        Raises NoClusterError when there is none, ClusterAccessError when this user may not read it.
        """
        home = find_home(data_dir)
        try:
            return home.url()
        except PermissionError as error:
            message = (
                f"{error.filename} may only be read by the user who started the private PostgreSQL: run this as him"
            )
            raise ClusterAccessError(message) from error

    @staticmethod
    def is_running(data_dir: Path) -> bool:
        """Whether a server takes connections for this data folder now. Raises ClusterAccessError."""
        try:
            home = find_home(data_dir)
            return is_serving(home.cluster)
        except NoClusterError:
            return False
        except PermissionError as error:
            message = f"{error.filename} may not be read: run this as its owner"
            raise ClusterAccessError(message) from error

    def start(self) -> str:
        """Start the server, making the cluster first if there is none; gives the owner's URL when it is ready.

        Raises an EmbeddedPostgresError: ClusterInUseError, WrongVersionError, NoBinariesError, ClusterAccessError,
        NoClusterError (a lost one) or ServerFailedError.
        """
        if self._home is not None and self._process is not None:
            return self._home.url()
        self._owner = os.getpid()
        try:
            self._home = open_home(self._data_dir, system_dir=self._system_dir)
            self._lock = OwnerLock.take(self._home)
            url = self._bring_up(self._home)
        except OSError as error:
            self.stop()
            message = f"the private PostgreSQL can't use {self._data_dir}: {error}; mend that, or choose another --data"
            raise ClusterAccessError(message) from error
        except BaseException:
            self.stop()
            raise
        atexit.register(self.stop)
        return url

    def stop(self) -> None:
        """Stop the server and let go of the data folder; a forked child, which doesn't own them, only forgets them."""
        if self._owner != os.getpid():
            return
        process, lock, home = self._process, self._lock, self._home
        self._process = self._lock = self._home = None
        atexit.unregister(self.stop)
        try:
            if process is not None:
                process.stop()
                if home is not None:
                    remove_short_folder(home)
        finally:
            if lock is not None:
                lock.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _bring_up(self, home: Home) -> str:
        clear_survivors(home.cluster)
        binaries = choose_binaries(home, self._given)
        if home.major_version() is None:
            create_cluster(home, binaries)
        elif not home.password_file.exists():
            renew_password(home, binaries)
        _make_ready(home)
        log = ServerLog(home)
        command = [binaries.program("postgres"), "-D", str(home.cluster)]
        self._process = ServerProcess(command, home.account, log=log, mend=lambda: _make_ready(home))
        self._process.start()
        _await_ready(self._process, home, log=log)
        self._process.keep_alive()
        return home.url()


def _make_ready(home: Home) -> None:
    """Whatever a server that was killed may have left or lost."""
    clear_survivors(home.cluster)
    write_settings(home, prepare_socket_folder(home))


def _await_ready(process: ServerProcess, home: Home, *, log: ServerLog) -> None:
    """Wait for the line that the postmaster writes into its pid file once it takes connections, as pg_ctl does."""
    deadline = time.monotonic() + LONGEST_START
    while True:
        # Asked for first: a server that was ready and died is not ready.
        has_ended = process.has_ended
        postmaster = read_postmaster(home.cluster)
        if has_ended or time.monotonic() > deadline:
            problem = "didn't start" if has_ended else f"wasn't ready within {LONGEST_START:.0f} s"
            message = f"the private PostgreSQL {problem}; mend what it says, see also {log.path}:\n{log.tail()}"
            raise ServerFailedError(message)
        if postmaster is not None and postmaster.pid == process.pid and postmaster.is_ready:
            return
        time.sleep(POLL)
