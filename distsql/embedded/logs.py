"""The server's log: one file and the one before it, so that it can't fill the disk."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from distsql.embedded.homes import Home

LARGEST: Final = 10 * 1024 * 1024
TAIL_LENGTH: Final = 2000


class ServerLog:
    """postgres.log of a home. The server holds it open for appending, so it is copied away and emptied, not renamed."""

    def __init__(self, home: Home) -> None:
        self.path = home.path / "postgres.log"
        self._owner = home.path.stat().st_uid
        self._began_at = 0

    def open(self) -> int:
        """A descriptor to append to, for the server's output; what `tail` gives begins here."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.fchown(descriptor, self._owner, -1)
        self._began_at = os.fstat(descriptor).st_size
        return descriptor

    def rotate(self) -> None:
        """Move the content to postgres.log.1 once it is large. Lines written meanwhile may get lost."""
        if self.path.stat().st_size <= LARGEST:
            return
        draft = self.path.with_suffix(".log.new")
        draft.unlink(missing_ok=True)
        with self.path.open("rb") as source, draft.open("xb") as target:
            draft.chmod(0o600)
            shutil.copyfileobj(source, target)
        draft.replace(self.path.with_suffix(".log.1"))
        os.truncate(self.path, 0)
        self._began_at = 0

    def tail(self) -> str:
        """The end of what the server said since it was started."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(min(self._began_at, size), size - TAIL_LENGTH))
            return file.read().decode("utf-8", "replace").strip()
