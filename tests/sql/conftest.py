"""A transaction that is rolled back after each test: 2 ms, and nothing to clean up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from distsql.sql.database import Database
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from tests.keptconnections import Kept
from tests.sql.rows import make_repository


class _Undo(Exception):
    pass


@pytest.fixture
async def database(worker_database: str, kept_connections: Kept) -> AsyncIterator[Database]:
    """The catalogue; what is committed has to be taken out again: use ``database_url`` beside it."""
    database = Database(worker_database, pool_size=4, statement_timeout_s=20, lock_timeout_s=10)
    yield database
    await database.close()


@pytest.fixture
async def tx(database: Database) -> AsyncIterator[Transaction]:
    try:
        async with database.transaction() as transaction:
            yield transaction
            raise _Undo
    except _Undo:
        pass


@pytest.fixture
async def repository(tx: Transaction) -> RepositoryRow:
    return await make_repository(tx, "acme/web")
