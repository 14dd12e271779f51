"""One registry for all client tests of a worker, images to push to it, and boxes to run clients in."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.images import Images, make_images
from tests.clients.programs import Box, make_box

READY_SECONDS = 60
STOP_SECONDS = 30

# Names a registry that already runs, as host:port, to see whether a failure is its fault or the client's:
# `docker-registry serve config.yml`, for one.
OTHER_REGISTRY = "DISTSQL_TEST_REGISTRY"


@dataclass(frozen=True)
class Registry:
    host: str

    @property
    def url(self) -> str:
        return f"http://{self.host}"


@pytest.fixture(scope="session")
def workspace() -> Iterator[Path]:
    """Everything that these tests write is below it. Other users may enter, unlike pytest's own folders: as root, the
    private PostgreSQL runs as one of them."""
    folder = Path(tempfile.mkdtemp(prefix="distsql-clients-")).resolve()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def registry(workspace: Path) -> Iterator[Registry]:
    if other := os.environ.get(OTHER_REGISTRY):
        yield Registry(other)
        return
    folder = workspace / "registry"
    folder.mkdir()
    with serve(folder, port=free_port()) as host:
        yield Registry(host)


@contextmanager
def serve(folder: Path, *, port: int) -> Iterator[str]:
    """`distsql serve` as its user starts and stops it."""
    command = [sys.executable, "-m", "distsql", "serve", "--port", str(port), "--data", str(folder / "data")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DISTSQL_")}
    with (folder / "stdout").open("w") as stdout, (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment, cwd=folder)
    try:
        await_ready(process, folder, line=f"distsql is ready on http://127.0.0.1:{port}")
        yield f"127.0.0.1:{port}"
        assert process.poll() is None, f"distsql ended during the tests{said(folder)}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0, f"distsql didn't end well{said(folder)}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def await_ready(process: subprocess.Popen[bytes], folder: Path, *, line: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while line not in (folder / "stdout").read_text().splitlines():
        assert process.poll() is None, f"distsql serve ended with status {process.returncode}{said(folder)}"
        assert time.monotonic() < deadline, f"distsql serve wasn't ready in {READY_SECONDS} s{said(folder)}"
        time.sleep(0.05)


def said(folder: Path) -> str:
    return "".join(f"\n--- {name}\n{(folder / name).read_text()[-8000:]}" for name in ("stdout", "stderr"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def images(workspace: Path) -> Images:
    return make_images(workspace / "images")


@pytest.fixture
def repository(registry: Registry) -> str:
    """A repository that no other test uses, with the registry's host in front: what people type."""
    return f"{registry.host}/clients/{secrets.token_hex(6)}"


@pytest.fixture
def new_box(workspace: Path, registry: Registry) -> Iterator[Callable[[], Box]]:
    """Makes boxes, for tests in which one user pushes and another one, elsewhere, pulls."""
    with ExitStack() as boxes:
        yield lambda: boxes.enter_context(
            make_box(workspace / f"box-{secrets.token_hex(4)}", insecure=registry.host),
        )


@pytest.fixture
def box(new_box: Callable[[], Box]) -> Box:
    return new_box()
