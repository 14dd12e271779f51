"""Making a cluster: under a temporary name until it is whole, so that an interrupted start leaves none or all of it."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import time
from typing import TYPE_CHECKING, Final

from distsql.embedded.errors import ClusterAccessError
from distsql.embedded.homes import NAME, sync_folder
from distsql.embedded.process import run_program
from distsql.embedded.settings import INCLUDE

if TYPE_CHECKING:
    from pathlib import Path

    from distsql.embedded.binaries import Binaries
    from distsql.embedded.homes import Home

STAGING: Final = "cluster.new-"
LONGEST_REMOVAL: Final = 10.0
BUILTIN_LOCALE_SINCE: Final = 17


def create_cluster(home: Home, binaries: Binaries) -> None:
    """Make the cluster with its role, database and password. Raises ServerFailedError, ClusterAccessError, OSError."""
    _require_passwd_entry(home)
    _remove_interrupted(home)
    password = secrets.token_urlsafe(24)
    home.write_file(home.password_file, password + "\n", mode=0o600)
    staging = home.path / f"{STAGING}{secrets.token_hex(4)}"
    told = staging.with_name(f"{staging.name}.password")  # initdb, as another user, can't read ours
    try:
        home.make_folder(staging, mode=0o700, uid=home.account.uid)
        home.write_file(told, password + "\n", mode=0o600, uid=home.account.uid)
        _initialise(home, binaries, staging=staging, password_file=told)
        staging.rename(home.cluster)
        sync_folder(home.path)
    finally:
        told.unlink(missing_ok=True)
        shutil.rmtree(staging, ignore_errors=True)


def _initialise(home: Home, binaries: Binaries, *, staging: Path, password_file: Path) -> None:
    initdb = [binaries.program("initdb"), f"--pgdata={staging}"]
    options = [
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C",
        "--data-checksums",
        f"--username={NAME}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
    ]
    if binaries.major >= BUILTIN_LOCALE_SINCE:
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    run_program([*initdb, *options], home.account)
    with os.fdopen(os.open(staging / "postgresql.conf", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW), "w") as file:
        # conf.d isn't there yet, and single-user mode must not miss it
        file.write(INCLUDE)
    home.make_folder(home.settings_dir, mode=0o750)
    run_alone(home, binaries, cluster=staging, statement=f"create database {NAME} owner {NAME}")
    run_program([*initdb, "--sync-only"], home.account)


def run_alone(home: Home, binaries: Binaries, *, cluster: Path, statement: str) -> None:
    """Run one statement as superuser on a cluster without a server: it needs no password and no socket."""
    command = [binaries.program("postgres"), "--single", "-c", "exit_on_error=on", "-D", str(cluster), "postgres"]
    run_program(command, home.account, says=f"{statement}\n")


def renew_password(home: Home, binaries: Binaries) -> None:
    """A password for a cluster whose password file was lost."""
    password = secrets.token_urlsafe(24)
    run_alone(home, binaries, cluster=home.cluster, statement=f"alter role {NAME} password '{password}'")
    home.write_file(home.password_file, password + "\n", mode=0o600)


def _remove_interrupted(home: Home) -> None:
    for leftover in home.path.glob(f"{STAGING}*"):
        if leftover.is_dir():
            _remove_folder(leftover)
        else:
            leftover.unlink(missing_ok=True)


def _remove_folder(folder: Path) -> None:
    """The server that a killed initdb had started lives on for a moment, and adds files while others are removed."""
    deadline = time.monotonic() + LONGEST_REMOVAL
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)


def _require_passwd_entry(home: Home) -> None:
    """Initdb insists on a name for its user; containers with an arbitrary uid have none."""
    try:
        pwd.getpwuid(home.account.uid)
    except KeyError:
        message = (
            f"PostgreSQL's initdb needs a line in /etc/passwd for uid {home.account.uid}: add one "
            f"('distsql:x:{home.account.uid}:{home.account.gid}::/:/sbin/nologin'), or give --database-url"
        )
        raise ClusterAccessError(message) from None
