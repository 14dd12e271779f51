"""`distsql serve` as people run it: a process of its own, on a port of its own."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

# Each worker takes a second of a core to start: tests of several say so.
FEW = {"DISTSQL_WORKERS": "1"}
READY_S = 60
STOP_S = 40
ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], *, seconds: float = 20, what: str = "it") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} didn't happen within {seconds} s"
        time.sleep(0.02)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Without settings of whoever runs the tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DISTSQL_", "PYTEST_"))}
    return {**clean, "PYTHONPATH": str(ROOT), **(extra or {})}


def distsql(
    *arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "distsql", *map(str, arguments)],
        env=environment(env), cwd=cwd, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def assert_sound(*options: object) -> None:
    """`distsql verify` finds no damage."""
    done = distsql("verify", *options)
    assert done.returncode == 0, done.stdout + done.stderr


def children(pid: int) -> list[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def command_line(pid: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""


def _state(path: Path) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return (path / "stat").read_text().rpartition(")")[2].split()[0]
    return ""


def is_alive(pid: int) -> bool:
    """Running: a zombie that nobody has waited for is not."""
    return _state(Path(f"/proc/{pid}")) not in {"", "Z"}


def is_paused(pid: int) -> bool:
    """All of its threads, after SIGSTOP."""
    return {_state(task) for task in Path(f"/proc/{pid}/task").iterdir()} == {"T"}


class Serve:
    """One `distsql serve`. ``options`` also pick its catalogue for other commands."""

    def __init__(
        self,
        catalogue: tuple[str, ...],
        *arguments: object,
        folder: Path,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"serve-{self.port}-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "distsql", "serve", "--port", str(self.port), *catalogue, *map(str, arguments)],
                env=environment({**FEW, **(env or {})}), cwd=folder,
                stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._seen: set[int] = set()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """What it wrote to stderr."""
        return self._log.read_text()

    def line(self, seconds: float = READY_S) -> str:
        """The next line of its stdout."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], seconds)
        assert readable, f"it said nothing within {seconds} s:\n{self.log}"
        return self.process.stdout.readline().decode().rstrip("\n")

    def wait_ready(self) -> Serve:
        line = self.line()
        assert line == f"distsql is ready on {self.url}", line + self.log
        self.workers()
        return self

    def workers(self) -> list[int]:
        """The processes that serve requests."""
        found = [child for child in children(self.pid) if "spawn_main" in command_line(child)]
        self._seen.update(found)
        return found

    def resident(self) -> int:
        """Bytes of memory of all workers."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.workers()]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, **options)  # type: ignore[arg-type]

    def wait(self, seconds: float = STOP_S) -> int:
        """Its exit status."""
        return self.process.wait(seconds)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.workers()
        self.process.send_signal(number)
        return self.wait()

    def kill(self) -> None:
        """The main process alone, as the kernel's out-of-memory killer would."""
        self.workers()
        self.process.kill()
        self.process.wait()

    def wait_workers_gone(self, seconds: float = 10) -> None:
        wait_until(lambda: not any(map(is_alive, self._seen)), seconds=seconds, what="the end of the workers")

    def close(self) -> None:
        if self.process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self.stop()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.wait_workers_gone()


@contextmanager
def serving(*arguments: object, **options: object) -> Iterator[Serve]:
    server = Serve(*arguments, **options)  # type: ignore[arg-type]
    try:
        yield server.wait_ready()
    finally:
        server.close()
