"""The folder of the Unix socket: in the home, or with a short name in the temporary folder when the path is long."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from distsql.embedded.accounts import can_enter
from distsql.embedded.errors import ClusterAccessError
from distsql.embedded.homes import SOCKET_NAME

if TYPE_CHECKING:
    from distsql.embedded.homes import Home

# The kernel takes 107 bytes (macOS: 103).
LONGEST: Final = 100


def prepare_socket_folder(home: Home) -> Path:
    """An empty folder, open to the server's user alone. Call it when no server runs.

    Files of a dead server go: its lock file would be believed in as long as somebody else has its pid.
    """
    place = home.socket_place
    if _is_usable(place):
        if place.is_symlink():
            place.unlink()
        home.make_folder(place, mode=0o700, uid=home.account.uid)
        folder = place
    else:
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        folder = _short_folder(home)
        draft = place.with_name("socket.new")
        draft.unlink(missing_ok=True)
        draft.symlink_to(folder)
        draft.replace(place)
    for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        (folder / name).unlink(missing_ok=True)
    return folder


def _is_usable(folder: Path) -> bool:
    """Short enough, and without the letters that URLs and settings can't quote: libpq splits a host at commas."""
    path = os.fsencode(folder / SOCKET_NAME)
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return len(path) <= LONGEST and b"," not in path


def _short_folder(home: Home) -> Path:
    """The same name for the same home every time; a folder that somebody else put there is refused."""
    ours = Path(tempfile.gettempdir())
    root = ours if can_enter(ours, home.account) and _is_usable(ours / ("x" * 24)) else Path("/tmp")  # noqa: S108
    folder = root / f"distsql-{hashlib.sha256(os.fsencode(home.path)).hexdigest()[:16]}"
    try:
        folder.mkdir(mode=0o700)
        os.chown(folder, home.account.uid, home.account.gid)
    except FileExistsError:
        status = folder.lstat()
        is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == home.account.uid and not status.st_mode & 0o077
        if not is_ours:
            message = (
                f"{folder} is needed for the server's socket but isn't a private folder of {home.account}: remove it"
            )
            raise ClusterAccessError(message) from None
    return folder


def remove_short_folder(home: Home) -> None:
    """Leave nothing in the temporary folder; the link stays, since it tells the URL."""
    if home.socket_place.is_symlink():
        with contextlib.suppress(OSError):
            home.socket_place.readlink().rmdir()
