"""What lies where: the folder `postgres` of a data folder, or the place that it points to.

    postgres/lock                 held by the one process that runs the server
    postgres/password             of the role distsql, 0600
    postgres/conf.d/              settings: ours in 00-distsql.conf, files of the operator's own win over it
    postgres/cluster/             PostgreSQL's data, of the server's user alone
    postgres/socket/              the Unix socket (or a link to a folder with a shorter name)
    postgres/postgres.log         what the server says

Started by root, everything but cluster/ and socket/ stays root's, so that the server's user (nobody, perhaps, which
others share) can't make root follow a link or read the password.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from distsql.embedded.accounts import ROOT, Account, can_enter, server_account
from distsql.embedded.choices import make_public
from distsql.embedded.errors import ClusterAccessError, NoClusterError

SYSTEM_DIR: Final = Path("/var/lib/distsql")
NAME: Final = "distsql"
PORT: Final = 5432
SOCKET_NAME: Final = f".s.PGSQL.{PORT}"


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one private PostgreSQL, symbolic links resolved, and who runs the server."""

    path: Path
    account: Account
    system_dir: Path = SYSTEM_DIR

    @property
    def cluster(self) -> Path:
        """PostgreSQL's data directory: whole, or absent."""
        return self.path / "cluster"

    @property
    def password_file(self) -> Path:
        """The owner's password."""
        return self.path / "password"

    @property
    def settings_dir(self) -> Path:
        """What the cluster's postgresql.conf includes."""
        return self.path / "conf.d"

    @property
    def socket_place(self) -> Path:
        """The folder of the socket, or a link to it."""
        return self.path / "socket"

    def major_version(self) -> int | None:
        """The PostgreSQL that wrote the cluster; None when there is none yet."""
        try:
            return int((self.cluster / "PG_VERSION").read_text("ascii").split(".", maxsplit=1)[0])
        except FileNotFoundError:
            return None
        except ValueError as error:
            message = f"{self.cluster / 'PG_VERSION'} is damaged ({error}): restore the data folder from a backup"
            raise NoClusterError(message) from error

    def make_folder(self, path: Path, *, mode: int, uid: int | None = None) -> None:
        """Make a folder of the home (or mend the mode and owner of one that an interrupted start left)."""
        if path.is_symlink():  # root, in a home of another user, mustn't be led elsewhere
            message = f"{path} is a symbolic link, where distsql wants a folder of its own: remove it"
            raise ClusterAccessError(message)
        path.mkdir(exist_ok=True)
        self._hand_over(path, mode=mode, uid=uid)

    def write_file(self, path: Path, text: str, *, mode: int, uid: int | None = None) -> None:
        """Write a file so that it is there as a whole or not at all, and durable."""
        draft = path.with_name(f"{path.name}.new-{secrets.token_hex(4)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
            file.write(os.fsencode(text))
            file.flush()
            os.fsync(file.fileno())
        self._hand_over(draft, mode=mode, uid=uid)
        draft.replace(path)
        sync_folder(path.parent)

    def _hand_over(self, path: Path, *, mode: int, uid: int | None) -> None:
        if os.geteuid() == ROOT:
            os.chown(path, self.path.stat().st_uid if uid is None else uid, self.account.gid, follow_symlinks=False)
        path.chmod(mode)

    def url(self) -> str:
        """The owner's URL, for psql, psycopg and SQLAlchemy. Raises NoClusterError when its parts aren't there."""
        try:
            password = self.password_file.read_text("ascii").strip()
            folder = self.socket_place.readlink() if self.socket_place.is_symlink() else self.socket_place
        except FileNotFoundError as error:
            message = f"{error.filename} is missing: the next 'distsql serve' on this data folder makes it anew"
            raise NoClusterError(message) from error
        host = quote(os.fsencode(folder), safe="/")
        return f"postgresql://{NAME}:{password}@/{NAME}?host={host}&port={PORT}"


def find_home(data_dir: Path) -> Home:
    """The home of an existing cluster. Raises NoClusterError, or ClusterAccessError when it may not be looked at."""
    link = data_dir.absolute() / "postgres"
    try:
        if not (link / "cluster" / "PG_VERSION").is_file():
            raise _no_cluster(data_dir, link)
        home = Home(link.resolve(), server_account(link / "cluster"))
    except PermissionError as error:
        message = f"{error.filename} may not be read by {Account(os.geteuid(), os.getegid())}: run this as its owner"
        raise ClusterAccessError(message) from error
    return home


def _no_cluster(data_dir: Path, link: Path) -> NoClusterError:
    if link.is_symlink() and not link.exists():
        return NoClusterError(
            f"{link} points to {link.readlink()}, which is gone: restore that folder from a backup, "
            f"or remove the link to begin with an empty catalogue"
        )
    return NoClusterError(
        f"there is no private PostgreSQL below {data_dir}: start it once with 'distsql serve --data {data_dir}', "
        "choose another folder with --data, or give --database-url"
    )


def open_home(data_dir: Path, *, system_dir: Path) -> Home:
    """The home below this data folder, made if there is none yet, and fit for the server's user."""
    if any(ord(letter) < ord(" ") for letter in str(data_dir)):
        message = (
            f"PostgreSQL can't live in a folder with control characters in its name ({str(data_dir)!r}): rename it"
        )
        raise ClusterAccessError(message)
    data_dir.mkdir(parents=True, exist_ok=True)
    link = data_dir.resolve() / "postgres"
    if link.is_symlink() and not link.exists():
        raise _no_cluster(data_dir, link)
    account = server_account(link / "cluster")
    if not link.exists():
        _make(link, account, system_dir=system_dir)
    home = Home(link.resolve(), account, system_dir)
    if account.is_other and home.path.stat().st_uid == ROOT:
        home.make_folder(home.path, mode=0o710)
    if not can_enter(home.path, account):
        message = (
            f"the server runs as {account}, which can't enter {home.path}: let it in (chmod o+x on the folders above "
            f"it), or move {home.path} to a place that it can enter and leave a symbolic link"
        )
        raise ClusterAccessError(message)
    return home


def _make(link: Path, account: Account, *, system_dir: Path) -> None:
    """Make an empty home: in the data folder, or where the server's user can't go there, in a system folder.

    The name in the system folder is random and not made from the path: who deletes the data folder and begins anew
    must not find the old catalogue again.
    """
    if can_enter(link.parent, account):
        link.mkdir(mode=0o700, exist_ok=True)
        return
    shelf = system_dir / "clusters"
    make_public(system_dir)
    make_public(shelf)
    target = shelf / f"{link.parent.name[:40]}-{secrets.token_hex(6)}"
    target.mkdir(mode=0o700)
    try:
        link.symlink_to(target)
    except OSError:
        target.rmdir()
        if not link.exists():  # otherwise another process was first
            raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
