"""Changes are read in the order of commits: none is lost, however long its transaction was open."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from distsql.sql.access_changes import (
    NOTHING_READ,
    delete_access_changes,
    insert_access_change,
    list_access_changes,
)
from distsql.sql.database import Database

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def other(database_url: str) -> Iterator[Connection]:
    """Another writer, whose transaction ends when the test says so."""
    with psycopg.connect(database_url) as connection:
        yield connection


async def read(database: Database, horizon: int) -> tuple[int, set[tuple[int | None, int | None]]]:
    rows = await database.read(list_access_changes, horizon)
    return rows[0].horizon, {(row.tenant_id, row.account_id) for row in rows if row.id is not None}


async def tell(database: Database, *who: int) -> None:
    async with database.transaction() as tx:
        insert_access_change(tx, *who)


async def test_a_late_commit_is_read(database: Database, other: Connection) -> None:
    """Its row is older than others that were read before, and its number is lower."""
    horizon, found = await read(database, NOTHING_READ)
    assert found == set()
    other.execute("insert into access_changes (tenant_id, account_id) values (1, 1)")
    await tell(database, 1, 2)
    horizon, found = await read(database, horizon)
    assert found == {(1, 2)}
    await tell(database, 1, 3)
    horizon, found = await read(database, horizon)
    assert (1, 3) in found
    other.commit()
    horizon, found = await read(database, horizon)
    assert (1, 1) in found
    assert await read(database, horizon) == (horizon, set())


async def test_what_is_over_is_not_read_again(database: Database) -> None:
    """Nor is it told twice; a tenant's change has no account."""
    horizon, _ = await read(database, NOTHING_READ)
    await tell(database, 7)
    later, found = await read(database, horizon)
    assert (horizon <= later, found) == (True, {(7, None)})
    assert (await read(database, later))[1] == set()


async def test_old_ones_are_forgotten(database: Database, other: Connection) -> None:
    """By the hour, and never one that somebody may have to read yet."""
    await tell(database, 1, 1)
    other.execute("update access_changes set at = at - interval '2 days'")
    other.commit()
    await tell(database, 1, 2)
    async with database.transaction() as tx:
        await delete_access_changes(tx, age=timedelta(days=1))
    assert other.execute("select account_id from access_changes").fetchall() == [(2,)]
