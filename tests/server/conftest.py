"""Servers in processes of their own: one that tests share, and as many as a test starts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from distsql.embedded.survivors import living_servers
from tests import postgres
from tests.places import make_place
from tests.server.processes import Serve, serving, wait_until
from tests.server.wire import Wire


@pytest.fixture
def place() -> Iterator[Path]:
    folder = make_place()
    yield folder
    for cluster in folder.rglob("cluster"):
        wait_until(lambda cluster=cluster: not living_servers(cluster), what="PostgreSQL's end")  # type: ignore[misc]
    shutil.rmtree(folder)


@pytest.fixture
def catalogue(postgres_server: str, template_database: str, place: Path) -> Iterator[tuple[str, ...]]:
    """Options that pick a migrated catalogue with nothing in it, and a byte store."""
    with postgres.new_database(postgres_server, template=template_database) as url:
        yield ("--database-url", url, "--storage", (place / "bytes").as_uri())


Start = Callable[..., Serve]


@pytest.fixture
def begin_serve(place: Path) -> Iterator[Start]:
    """Starts `distsql serve` and doesn't wait until it is ready."""
    with ExitStack() as stack:

        def start(catalogue: tuple[str, ...], *arguments: object, **options: object) -> Serve:
            server = Serve(catalogue, *arguments, folder=place, **options)  # type: ignore[arg-type]
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def start_serve(begin_serve: Start) -> Start:
    """Starts `distsql serve` and waits until it is ready."""
    return lambda *arguments, **options: begin_serve(*arguments, **options).wait_ready()


@pytest.fixture(scope="session")
def shared_serve(postgres_server: str, template_database: str) -> Iterator[Serve]:
    """A server for tests that leave it as it is. It waits two seconds for the next piece of a body."""
    folder = make_place()
    with postgres.new_database(postgres_server, template=template_database) as url:
        catalogue = ("--database-url", url, "--storage", (folder / "bytes").as_uri())
        env = {"DISTSQL_BODY_TIMEOUT": "2s", "DISTSQL_MANIFEST_LIMIT": "4MiB"}
        with serving(catalogue, folder=folder, env=env) as server:
            yield server
    shutil.rmtree(folder)


@pytest.fixture
def wire(shared_serve: Serve) -> Iterator[Wire]:
    """A connection to the shared server."""
    with Wire(shared_serve.port) as opened:
        yield opened
