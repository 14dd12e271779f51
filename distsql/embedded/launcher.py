"""Becomes a program of PostgreSQL: another user, a session of its own, and a signal when its owner dies.

Run by path, with -I -S and nothing but the standard library: it starts in some 20 ms, needs no preexec_fn (which can
deadlock in a process with threads), and reads all its code before it gives up the right to read it.

    python -I -S launcher.py UID GID OWNER_PID SIGNAL PROGRAM [ARGUMENT ...]
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Drop, detach, arm, and turn into the program."""
    uid, gid, owner, signal = map(int, arguments[:4])
    program = arguments[4:]
    libc = ctypes.CDLL(None, use_errno=True)
    if uid != os.geteuid():
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        except OSError as error:
            sys.exit(f"distsql: can't become user {uid}: {error}. Run distsql as an ordinary user, or with CAP_SETUID.")
    os.umask(0o077)
    os.setsid()
    if sys.platform == "linux":
        # After setuid, which clears it. Then look whether the owner died before it was armed.
        if libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0):
            sys.exit(f"distsql: prctl failed: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != owner:
            sys.exit("distsql: the owner is gone already")
    try:
        os.execv(program[0], program)  # noqa: S606 - no shell is what we want
    except OSError as error:
        sys.exit(f"distsql: can't run {program[0]}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
