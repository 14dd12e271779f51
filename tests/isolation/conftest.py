"""The world is made once for each worker; every test gets two copies of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from distsql.sql import tenant_setting
from tests import postgres
from tests.isolation.things import Stock
from tests.isolation.world import ACME, Origin, World, copied, fill, settings_of
from tests.places import make_place


@pytest.fixture(scope="session")
def origin(postgres_server: str, template_database: str) -> Iterator[Origin]:
    folder = make_place()
    with postgres.new_database(postgres_server, template=template_database) as url:
        uploads, secret = asyncio.run(fill(settings_of(url, folder / "bytes")))
        yield Origin(postgres_server, url, folder / "bytes", uploads, secret)
    shutil.rmtree(folder)


@pytest.fixture
def there(origin: Origin) -> Stock:
    """What tenant A has."""
    return origin.stock(ACME, "hidden")


@pytest.fixture
def nowhere(origin: Origin) -> Stock:
    """What looks alike, and nobody has."""
    return origin.stock("nada", "absent")


@pytest.fixture
async def worlds(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[World, World]]:
    """Two of the same. In one is asked for what is there, in the other for what is nowhere."""
    # A tenant's id is not looked up again in the middle, in one of the two.
    monkeypatch.setattr(tenant_setting, "FRESH_S", 3600)
    async with copied(origin, tmp_path / "first") as first, copied(origin, tmp_path / "second") as second:
        yield first, second


@pytest.fixture
async def world(origin: Origin, tmp_path: Path) -> AsyncIterator[World]:
    async with copied(origin, tmp_path / "only") as copy:
        yield copy
