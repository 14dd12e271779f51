"""PostgreSQL as it is run elsewhere: behind a pooler, over TLS, with replicas, under several servers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from distsql.embedded import PrivatePostgres
from distsql.sql import schema
from tests import postgres
from tests.deployments.poolers import pgbouncer
from tests.places import make_place


@pytest.fixture(scope="session")
def pooled_catalogue(postgres_server: str, template_database: str) -> Iterator[tuple[str, str]]:
    """The URLs of a migrated catalogue, and of the same through PgBouncer."""
    folder = make_place()
    with postgres.new_database(postgres_server, template=template_database) as url, pgbouncer(url, folder) as pooled:
        yield url, pooled
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def direct_broom(pooled_catalogue: tuple[str, str]) -> Iterator[postgres.Broom]:
    """What empties that catalogue."""
    with closing(postgres.Broom(pooled_catalogue[0])) as broom:
        yield broom


@pytest.fixture
def pooled_url(pooled_catalogue: tuple[str, str], direct_broom: postgres.Broom) -> Iterator[str]:
    """A catalogue with nothing in it, through PgBouncer in transaction mode."""
    yield pooled_catalogue[1]
    direct_broom.sweep()


@pytest.fixture(scope="session")
def primary() -> Iterator[tuple[Path, str]]:
    """A PostgreSQL of its own, of which copies are made: its data folder, and the URL of a migrated catalogue in it."""
    folder = make_place()
    with PrivatePostgres(folder) as server:
        url = server.url(folder)
        schema.migrate(url)
        yield folder, url
    shutil.rmtree(folder)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users may enter."""
    folder = make_place()
    yield folder
    shutil.rmtree(folder)
