"""Servers that outlived their owner, and the files that dead ones left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from distsql.embedded.errors import ClusterInUseError

PROC: Final = Path("/proc")
HAS_PROC: Final = (PROC / "self" / "cwd").exists()
STATUS_LINE: Final = 7

# Seconds after which an orphan is asked again, and harder; the kernel has sent it the first signal already (Linux).
# Never SIGKILL: backends would go on for a while without their postmaster.
ESCALATION: Final = ((1.0, signal.SIGINT, signal.SIGTERM), (45.0, signal.SIGQUIT, signal.SIGQUIT))
GIVE_UP_AFTER: Final = 60.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What postmaster.pid says; whether it is true is another matter."""

    pid: int
    is_ready: bool


def read_postmaster(cluster: Path) -> Postmaster | None:
    """The content of postmaster.pid; None when there is none, or it isn't written yet."""
    try:
        lines = (cluster / "postmaster.pid").read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    if not lines[0].strip().isdigit():
        return None
    return Postmaster(int(lines[0]), is_ready=len(lines) > STATUS_LINE and lines[STATUS_LINE].strip() == b"ready")


def is_serving(cluster: Path) -> bool:
    """Whether a server takes connections for this cluster now."""
    postmaster = read_postmaster(cluster)
    return postmaster is not None and postmaster.is_ready and postmaster.pid in living_servers(cluster)


def living_servers(cluster: Path) -> list[int]:
    """The pids of all of PostgreSQL's processes on this cluster: the postmaster, its backends, and their orphans.

    They are recognised by their working directory, which is the cluster, and which zombies no longer have.
    """
    if not HAS_PROC:
        return _ask_ps(cluster)
    try:
        wanted = cluster.stat()
    except FileNotFoundError:
        return []
    return [int(place.name) for place in PROC.iterdir() if place.name.isdigit() and _lives_in(place, wanted)]


def _lives_in(process: Path, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat((process / "cwd").stat(), wanted) and (
            (process / "comm").read_text("utf-8", "replace").startswith("postgres")
        )
    except OSError:  # gone, a zombie, or another user's
        return False


def _ask_ps(cluster: Path) -> list[int]:
    """Without /proc (macOS): only the postmaster can be told, by its command line."""
    postmaster = read_postmaster(cluster)
    if postmaster is None:
        return []
    answer = subprocess.run(  # noqa: S603 - an argument list of our own
        ["ps", "-p", str(postmaster.pid), "-o", "stat=,command="],  # noqa: S607 - wherever the system has it
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
    ).stdout.strip()
    lives = "postgres" in answer and str(cluster) in answer and not answer.startswith("Z")
    return [postmaster.pid] if lives else []


def clear_survivors(cluster: Path) -> None:
    """See to it that no server runs on the cluster and none seems to: wait for orphans, stop them, remove a stale file.

    Call it with the owner's lock held. Raises ClusterInUseError when an orphan doesn't stop.
    """
    began = time.monotonic()
    steps = list(ESCALATION)
    while living := living_servers(cluster):
        waited = time.monotonic() - began
        if waited > GIVE_UP_AFTER:
            message = (
                f"processes {living} still run PostgreSQL on {cluster}, although their owner is gone, and don't stop: "
                f"end them (kill -QUIT {living[0]}) and try again"
            )
            raise ClusterInUseError(message)
        if steps and waited >= steps[0][0]:
            _, to_postmaster, to_orphan = steps.pop(0)
            _ask_to_stop(cluster, living, to_postmaster=to_postmaster, to_orphan=to_orphan)
        time.sleep(0.02)
    _remove_stale_file(cluster)


def _ask_to_stop(cluster: Path, living: list[int], *, to_postmaster: int, to_orphan: int) -> None:
    """The postmaster stops its backends itself; those that have lost it are asked one by one."""
    postmaster = read_postmaster(cluster)
    logger.warning("PostgreSQL on %s outlived its owner (processes %s), stopping it", cluster, living)
    with contextlib.suppress(ProcessLookupError):
        if postmaster is not None and postmaster.pid in living:
            os.kill(postmaster.pid, to_postmaster)
            return
    for pid in living:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, to_orphan)


def _remove_stale_file(cluster: Path) -> None:
    """Remove a postmaster.pid whose pid is now a zombie's or another program's: PostgreSQL would believe in it.

    One with a dead pid is left to PostgreSQL, which also looks whether its shared memory is still in use.
    """
    postmaster = read_postmaster(cluster)
    if postmaster is None:
        return
    try:
        os.kill(postmaster.pid, 0)
    except ProcessLookupError:
        return
    except PermissionError:
        pass
    logger.warning("removing %s/postmaster.pid: process %d is no server of it", cluster, postmaster.pid)
    (cluster / "postmaster.pid").unlink(missing_ok=True)
