"""Several `distsql serve` on one catalogue and one store, each of which may be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from benchmarks.processes import read_cpu
from benchmarks.servers import ServerFailed, free_port
from distsql.embedded import PrivatePostgres
from distsql.sql import schema

START: Final = 90.0
LOOK: Final = 0.05


class Member:
    """One server, which is on its port again after it was killed."""

    def __init__(
        self, catalogue: list[str], folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"serve-{self.port}.log"
        self._command = [sys.executable, "-m", "distsql", "serve", "--port", str(self.port), *catalogue, *arguments]
        self._environment = {**os.environ, "DISTSQL_ACCESS_LOG": "off", **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begins to start; `wait_ready` waits for its end."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=self._environment,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed(f"{self.url} isn't running")
        return self._process.pid

    @property
    def lives(self) -> int:
        """How often it said that it is ready."""
        return self.log.read_text(errors="replace").count("distsql is ready on") if self.log.exists() else 0

    def wait_ready(self, lives: int = 1) -> None:
        looks = 0  # not by a clock, which goes on while a machine is paused
        while self.lives < lives:
            if self._process is None or self._process.poll() is not None or looks * LOOK > START:
                raise ServerFailed(f"{self.url} didn't start; the end of its log:\n{self.log.read_text()[-2000:]}")
            time.sleep(LOOK)
            looks += 1

    def kill(self) -> None:
        """All of its processes at once, as a machine that is switched off."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def cpu(self) -> float:
        """Seconds of CPU that its processes took."""
        return 0 if self._process is None else read_cpu(self._process.pid, self.log.parent / "no such folder")

    def stop(self) -> None:
        """As an operator does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(40)
            self.kill()


@contextmanager
def running_fleet(folder: Path, servers: int, *, storage: str = "") -> Iterator[tuple[list[Member], list[str]]]:
    """Servers over a private PostgreSQL and a store, and the options that pick both for other commands.

    Without the address of a store it is a folder.
    """
    with PrivatePostgres(folder / "data") as postgres:
        url = postgres.url(folder / "data")
        schema.migrate(url)
        catalogue = ["--database-url", url, "--storage", storage or (folder / "bytes").as_uri()]
        fleet = [Member(catalogue, folder, "--workers", "1") for _ in range(servers)]
        try:
            for member in fleet:
                member.start()
            for member in fleet:
                member.wait_ready()
            yield fleet, catalogue
        finally:
            for member in fleet:
                member.stop()
