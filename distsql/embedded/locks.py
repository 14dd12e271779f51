"""One owner for each private PostgreSQL: a lock that the kernel lets go of when the owner dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from typing import TYPE_CHECKING

from distsql.embedded.errors import ClusterInUseError

if TYPE_CHECKING:
    from pathlib import Path

    from distsql.embedded.homes import Home


class OwnerLock:
    """An exclusive flock on a file that holds its owner's pid, for the message to those who come second."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        # A forked child would keep the lock alive after its parent was killed: it lets go at once.
        reference = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _close(reference()))

    @classmethod
    def take(cls, home: Home) -> OwnerLock:
        """Take the lock. Raises ClusterInUseError, naming the process, when another one (or this one) has it."""
        path = home.path / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor, path)
            os.fchown(descriptor, home.path.stat().st_uid, -1)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Let go; the file stays, since removing it would let two processes each lock a file of their own."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
        self.close()

    def close(self) -> None:
        """Forget the file, in a child that doesn't own the server."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _close(lock: OwnerLock | None) -> None:
    if lock is not None:
        lock.close()


def _read_holder(descriptor: int) -> str:
    """Who has the lock; he writes his pid just after he took it, so look more than once."""
    for _ in range(20):
        pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        if pid:
            return f"process {pid}"
        time.sleep(0.01)
    return "another process"


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        message = (
            f"the private PostgreSQL in {path.parent} is in use by {_read_holder(descriptor)}: stop that "
            "'distsql serve' first, or choose another folder with --data; several servers share a PostgreSQL of its "
            "own, given with --database-url"
        )
        raise ClusterInUseError(message) from error
