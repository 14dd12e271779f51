"""Folders that any user may enter, unlike pytest's own: started by root, PostgreSQL runs as another user."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")
_ROOM: Final = 4 * 1024**3


def make_place(prefix: str = "distsql-test-") -> Path:
    """A new folder, in memory where there is room: in these tests processes die, not machines, and disks are slow.

    Its path is short, as sockets need it.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place_of_places()))
    folder.chmod(0o755)
    return folder


def place_of_places() -> Path:
    """Where folders of tests are made: thousands of files are written, flushed and removed in a run."""
    return _MEMORY if _is_usable(_MEMORY) else Path("/tmp")


def _is_usable(folder: Path) -> bool:
    """Containers often have a small one, or one that programs can't be run from."""
    return (
        folder.is_dir()
        and os.access(folder, os.W_OK)
        and shutil.disk_usage(folder).free > _ROOM
        and not os.statvfs(folder).f_flag & os.ST_NOEXEC
    )
