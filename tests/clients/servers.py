"""`distsql serve` as its user starts and stops it: a process, a line on stdout, a signal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

READY_SECONDS = 60
STOP_SECONDS = 30


@contextmanager
def serving(command: Sequence[str], *, port: int, folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """The host and port of a server that runs in a folder, and has to end well when asked to."""
    with (folder / "stdout").open("w") as stdout, (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment, cwd=folder)
    try:
        await_ready(process, folder, line=f"distsql is ready on http://127.0.0.1:{port}")
        yield f"127.0.0.1:{port}"
        assert process.poll() is None, f"the server ended during the tests{said(folder)}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0, f"the server didn't end well{said(folder)}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def await_ready(process: subprocess.Popen[bytes], folder: Path, *, line: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while line not in (folder / "stdout").read_text().splitlines():
        assert process.poll() is None, f"the server ended with status {process.returncode}{said(folder)}"
        assert time.monotonic() < deadline, f"the server wasn't ready in {READY_SECONDS} s{said(folder)}"
        time.sleep(0.05)


def said(folder: Path) -> str:
    return "".join(f"\n--- {name}\n{(folder / name).read_text()[-8000:]}" for name in ("stdout", "stderr"))


def plain_environment() -> dict[str, str]:
    """This process's, without settings for distsql that somebody has around."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DISTSQL_")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
