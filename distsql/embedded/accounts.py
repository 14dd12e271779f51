"""The operating system's user that the server runs as: PostgreSQL refuses root, so root lends it another one."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from distsql.embedded.errors import ClusterAccessError

if TYPE_CHECKING:
    from pathlib import Path

ROOT: Final = 0

# A user made for the purpose comes first, then PostgreSQL's own; every system has nobody. None is ever created.
LENT_NAMES: Final = ("distsql", "postgres", "nobody")

READ, ENTER = 4, 1


@dataclass(frozen=True, slots=True)
class Account:
    """A user and its one group (the launcher drops supplementary groups)."""

    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        """Whether the server runs as somebody else than this process."""
        return self.uid != os.geteuid()

    def __str__(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"


def server_account(cluster: Path) -> Account:
    """Who runs the server of this cluster: its folder's owner, or for a cluster to be made, us or (as root) another.

    Raises ClusterAccessError when the folder is another user's, root's, or when no user can be lent.
    """
    try:
        status = cluster.stat()
    except FileNotFoundError:
        return _lent_account() if os.geteuid() == ROOT else Account(os.geteuid(), os.getegid())
    owner = Account(status.st_uid, status.st_gid)
    if owner.uid == ROOT:
        message = (
            f"{cluster} belongs to root, and PostgreSQL refuses to run as root: "
            f"give it to another user with chown -R (for example 'chown -R nobody {cluster}')"
        )
        raise ClusterAccessError(message)
    if os.geteuid() not in {ROOT, owner.uid}:
        message = (
            f"{cluster} belongs to {owner}, not to {Account(os.geteuid(), os.getegid())}: run distsql as {owner} "
            f"or root, or choose another data folder with --data"
        )
        raise ClusterAccessError(message)
    return owner


def _lent_account() -> Account:
    for name in LENT_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != ROOT:
            return Account(entry.pw_uid, entry.pw_gid)
    message = (
        f"PostgreSQL refuses to run as root, and this machine has none of the users {', '.join(LENT_NAMES)}: "
        "run distsql as an ordinary user, create a user distsql, or give --database-url"
    )
    raise ClusterAccessError(message)


def can_enter(folder: Path, account: Account) -> bool:
    """Whether the account can go into the folder, through all folders above it, by their permission bits."""
    if not account.is_other:
        return os.access(folder, os.X_OK)
    real = folder.resolve()
    return all(permits(place, account, wanted=ENTER) for place in (real, *real.parents))


def permits(path: Path, account: Account, *, wanted: int) -> bool:
    """Whether the permission bits of this one file or folder give the account what is wanted (READ | ENTER)."""
    status = path.stat()
    if status.st_uid == account.uid:
        granted = status.st_mode >> 6
    elif status.st_gid == account.gid:
        granted = status.st_mode >> 3
    else:
        granted = status.st_mode
    return granted & wanted == wanted
