"""An empty registry of each implementation in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from distsql.contract import Namespace, Repository
from distsql.registry import paging
from distsql.remote import connection
from tests.contract.implementations import ANOTHER_STORE, IMPLEMENTATIONS, Opened

PAGE = 5


# Where bytes matter. Elsewhere one byte store will do.
ABOUT_BYTES = {"test_layers", "test_repositories", "test_uploads", "test_uploads_at_once"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "opened" in metafunc.fixturenames:
        about_bytes = metafunc.module.__name__.rpartition(".")[2] in ABOUT_BYTES
        names = [name for name in IMPLEMENTATIONS if about_bytes or name not in ANOTHER_STORE]
        metafunc.parametrize("opened", names, indirect=True)


@pytest.fixture
async def opened(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Opened]:
    # So that a dozen names are many pages.
    monkeypatch.setattr(paging, "PAGE", PAGE)
    monkeypatch.setattr(connection, "PAGE", PAGE)
    async with IMPLEMENTATIONS[request.param](database_url, tmp_path) as opened:
        yield opened


@pytest.fixture
def namespace(opened: Opened) -> Namespace:
    """Every name, on behalf of ``tester``."""
    return opened.namespace


@pytest.fixture
def elsewhere(opened: Opened) -> Namespace:
    """The same in another process."""
    return opened.elsewhere


@pytest.fixture
def scoped(opened: Opened) -> Callable[[str], Namespace]:
    """The namespace of one tenant."""
    return opened.scoped


@pytest.fixture
def repository(namespace: Namespace) -> Repository:
    """One that doesn't exist yet."""
    return namespace.repository("acme/web")
