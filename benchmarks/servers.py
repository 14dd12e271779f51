"""The registries that are compared: how each is started, stopped, and what it has used.

Each runs as its users get it, on all cores, with files on this machine, logs off, on loopback, without authentication
unless it says otherwise. Nothing of it is left behind: its folder goes with it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import ClassVar, Final, Self
from urllib.parse import urlencode

from benchmarks.processes import Memory, find_processes, read_cpu, read_memory, reset_peak

OPEN: Final = "distsql"
GUARDED: Final = "distsql, tokens"
BARE: Final = "nothing but HTTP"
TENANT: Final = "bench"
ACCOUNT: Final = f"{TENANT}/load"
SCOPES: Final = ("app", "tags")
"""Repositories that the load's token is for."""

START: Final = 60.0
STOP: Final = 30.0

PEER_CONFIG: Final = """\
version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  cache:
    blobdescriptor: inmemory  # as in the configuration that Debian packs
  filesystem:
    rootdirectory: {storage}
  delete:
    enabled: true
http:
  addr: 127.0.0.1:{port}
"""


class ServerFailed(Exception):
    """A server didn't start, or didn't stop."""


class Server(ABC):
    """A registry in a folder of its own. `name` is what the report calls it."""

    def __init__(self, name: str, folder: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.folder = folder
        self.port = free_port()
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._past_cpu = 0.0

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it; files that this needs are made."""

    def is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except ConnectionRefusedError:
            return False
        return True

    @property
    @abstractmethod
    def bytes_folder(self) -> Path:
        """Where the server keeps blobs' bytes."""

    @property
    def headers(self) -> str:
        """Lines that each request has, which end with CRLF."""
        return ""

    @property
    def basic(self) -> str:
        """The line for requests to any repository, where a token would have to name each."""
        return ""

    @property
    def login(self) -> str:
        """Name and secret as clients are given them, with a colon; empty where nobody logs in."""
        return ""

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed(f"{self.name} isn't running")
        return self._process.pid

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        try:
            self.start()
            self.prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def prepare(self) -> None:  # noqa: B027 - for most there is nothing
        """What has to be done once, when it runs for the first time."""

    def cpu(self) -> float:
        """Seconds that it has taken in all its lives."""
        return self._past_cpu + (0 if self._process is None else read_cpu(self._process.pid, self.folder))

    def memory(self) -> Memory:
        return read_memory(self.pid, self.folder)

    def reset_peak(self) -> None:
        reset_peak(self.pid, self.folder)

    def drop_files(self, *, since: float, at_least: int) -> None:
        """Remove big files that were written since then: uploads of a round, so that neither disk nor cache fills up.

        Files, not blobs: deleting over HTTP would leave the bytes to a garbage collection in somebody's round.
        """
        # By find, which looks at 100,000 small files in less than a second; Python takes many.
        wanted = ("-type", "f", "-size", f"+{at_least // 1024 - 1}k", "-newermt", f"@{since}")
        subprocess.run(["find", str(self.bytes_folder), *wanted, "-delete"], check=True)

    def start(self) -> None:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )
        deadline = time.monotonic() + START
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} didn't start; the end of its log:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is None:
            return
        members = find_processes(self._process.pid, self.folder)
        self._past_cpu = self.cpu()
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired as error:
            for member in members:
                _kill(member.pid)
            raise ServerFailed(f"{self.name} didn't stop within {STOP:.0f} s, so it was killed") from error
        left = find_processes(process.pid, self.folder)
        for member in left:
            _kill(member.pid)
        if left:
            raise ServerFailed(f"{self.name} left processes behind, which were killed: {left}")


class Distsql(Server):
    program: ClassVar = "distsql"

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder, environment={"DISTSQL_ACCESS_LOG": "off"})  # the peer writes none either

    def command(self) -> list[str]:
        data = str(self.folder / "data")
        # distsql would make it root's alone, and then keep PostgreSQL's files elsewhere, where they would stay behind.
        Path(data).mkdir(mode=0o755, exist_ok=True)
        return [sys.executable, "-m", self.program, "serve", "--data", data, "--port", str(self.port)]

    @property
    def bytes_folder(self) -> Path:
        return self.folder / "data/bytes"

    def is_ready(self) -> bool:
        return f"distsql is ready on http://127.0.0.1:{self.port}" in self.log.read_text(errors="replace")


class Uncounted(Distsql):
    """Doesn't count pulls."""

    program = "benchmarks.uncounted"


class GuardedDistsql(Distsql):
    """With `--auth token`: the load shows a token, and real clients log in, as an account of the tenant `bench`."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self._secret = ""
        self._token, self._token_ends = "", 0.0

    def command(self) -> list[str]:
        return [*super().command(), "--auth", "token"]

    def prepare(self) -> None:
        self._administer("tenant", "create", TENANT)
        granted = f"{TENANT}/**:pull,push,delete"
        made = self._administer("account", "create", ACCOUNT, "--grant", granted, "--json")
        self._secret = json.loads(made)["secret"]

    @property
    def login(self) -> str:
        return f"{ACCOUNT}:{self._secret}"

    @property
    def basic(self) -> str:
        return f"Authorization: Basic {base64.b64encode(self.login.encode()).decode()}\r\n"

    @property
    def headers(self) -> str:
        """A token for everything that is measured. Tokens live for minutes: it is a new one after half of its time."""
        if time.monotonic() > self._token_ends:
            scopes = [f"repository:{TENANT}/{name}:pull,push,delete" for name in SCOPES] + ["registry:catalog:*"]
            query = urlencode({"service": "distsql", "scope": scopes}, doseq=True)
            connection = HTTPConnection("127.0.0.1", self.port, timeout=START)
            connection.request("GET", f"/token?{query}", headers=dict([self.basic.strip().split(": ", 1)]))
            issued = json.loads(connection.getresponse().read())
            connection.close()
            self._token, self._token_ends = issued["token"], time.monotonic() + issued["expires_in"] / 2
        return f"Authorization: Bearer {self._token}\r\n"

    def _administer(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "distsql", *arguments, "--data", str(self.folder / "data")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self._environment)
        if done.returncode:
            raise ServerFailed(f"{self.name}: {' '.join(arguments)}: {done.stderr}")
        return done.stdout


class DockerRegistry(Server):
    def command(self) -> list[str]:
        config = self.folder / "config.yml"
        config.write_text(PEER_CONFIG.format(storage=self.storage, port=self.port))
        return ["docker-registry", "serve", str(config)]

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    @property
    def bytes_folder(self) -> Path:
        return self.storage / "docker/registry/v2/blobs"


class BareRegistry(Server):
    """A client takes at least as long with any registry as it does with this one."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "benchmarks.bare_registry", str(self.port), str(self.folder)]

    @property
    def bytes_folder(self) -> Path:
        return self.folder


def free_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
