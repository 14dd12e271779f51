"""One registry for all client tests of a worker, images to push to it, and boxes to run clients in."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients.images import Images, make_images
from tests.clients.programs import Box, make_box
from tests.clients.servers import free_port, plain_environment, serving

# Names a registry that runs already, as host:port, to see whether a failure is distsql's fault or the client's.
OTHER_REGISTRY = "DISTSQL_TEST_REGISTRY"


@pytest.fixture(scope="session")
def workspace() -> Iterator[Path]:
    """Everything that these tests write is below it. Other users may enter, unlike pytest's own folders: as root, the
    private PostgreSQL runs as one of them. The path is short because it becomes part of socket addresses."""
    # Not mkdtemp: podman reads the path as an image's name, which can't have the "-_" that one in 37 of its names has.
    folder = Path("/tmp").resolve() / f"dsql-{secrets.token_hex(4)}"
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def registry(workspace: Path) -> Iterator[str]:
    """The host and port of a registry that all client tests of a worker share, each with a repository of its own."""
    if other := os.environ.get(OTHER_REGISTRY):
        yield other
        return
    folder = workspace / "registry"
    folder.mkdir()
    port = free_port()
    command = [sys.executable, "-m", "distsql", "serve", "--port", str(port), "--data", str(folder / "data")]
    with serving(command, port=port, folder=folder, environment=plain_environment()) as host:
        yield host


@pytest.fixture(scope="session")
def images(workspace: Path) -> Images:
    return make_images(workspace / "images")


@pytest.fixture
def repository(registry: str) -> str:
    """A repository that no other test uses, with the registry's host in front: what people type."""
    return f"{registry}/clients/{secrets.token_hex(6)}"


@pytest.fixture
def new_box(workspace: Path, registry: str) -> Iterator[Callable[[], Box]]:
    """Makes boxes, for tests in which one user pushes and another one, elsewhere, pulls."""
    with ExitStack() as boxes:
        yield lambda: boxes.enter_context(make_box(workspace / secrets.token_hex(3), insecure=registry))


@pytest.fixture
def box(new_box: Callable[[], Box]) -> Box:
    return new_box()
