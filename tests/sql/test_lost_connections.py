"""Connections that are killed, cancelled or used up: the pool and the server are clean afterwards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import psycopg
import pytest

from distsql.errors import CatalogueUnavailableError
from distsql.oci.names import RepositoryName
from distsql.sql import grants, repositories
from distsql.sql.database import Database
from distsql.sql.transactions import Transaction
from tests.sql.rows import lock_repository, look, make_repository

pytestmark = pytest.mark.usefixtures("fresh_connections")

NAME = RepositoryName("acme", "web")
SIZE = 3
Sql = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
async def pooled(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=SIZE, statement_timeout_s=10, lock_timeout_s=5)
    yield database
    assert free_slots(database) == SIZE
    await database.close()


def free_slots(database: Database) -> int:
    return database._pool._slots._value


_OURS = "from pg_stat_activity where application_name = 'distsql' and datname = current_database()"


def kill(sql: Sql) -> None:
    """All of distsql's connections to this database."""
    sql.execute(f"select pg_terminate_backend(pid, 5000) {_OURS}")


def states(sql: Sql) -> list[str]:
    return [str(state) for (state,) in sql.execute(f"select state {_OURS} order by state")]


async def pid(tx: Transaction) -> int:
    [(found,)] = await look(tx, "select pg_backend_pid()")
    return int(found)


async def test_a_connection_killed_while_idle_is_nobody_s_error(pooled: Database, sql: Sql) -> None:
    for _ in range(3):
        await asyncio.gather(*(pooled.transact(pid) for _ in range(SIZE)))
        await pooled.read(repositories.find_repository, NAME)
        kill(sql)
        attempts = 0

        async def work(tx: Transaction) -> None:
            nonlocal attempts
            attempts += 1
            tx.queue(repositories.ENSURE_TENANT, tenant="acme")  # goes with the commit, which is never run twice

        await pooled.transact(work)
        assert attempts == 1
        await pooled.read(repositories.find_repository, NAME)


async def test_killed_in_the_middle_it_is_run_again_once(pooled: Database, sql: Sql) -> None:
    pids = []

    async def work(tx: Transaction) -> None:
        pids.append(await pid(tx))
        if len(pids) == 1:
            kill(sql)
        await make_repository(tx, str(NAME))

    await pooled.transact(work)
    assert len(set(pids)) == 2
    assert sql.execute("select path from repositories").fetchall() == [("web",)]


async def test_killed_each_time_it_is_unavailable(pooled: Database, sql: Sql) -> None:
    attempts = 0

    async def work(tx: Transaction) -> None:
        nonlocal attempts
        attempts += 1
        await pid(tx)
        kill(sql)
        await pid(tx)

    with pytest.raises(CatalogueUnavailableError, match="went away"):
        await pooled.transact(work)
    assert attempts == 2
    await pooled.transact(pid)


async def test_killed_at_the_commit_it_is_not_run_again(pooled: Database, sql: Sql) -> None:
    attempts = 0

    async def work(tx: Transaction) -> None:
        nonlocal attempts
        attempts += 1
        await make_repository(tx, str(NAME))
        kill(sql)

    with pytest.raises(CatalogueUnavailableError, match="during the commit"):
        await pooled.transact(work)
    assert attempts == 1
    await pooled.transact(pid)


async def test_killed_in_the_last_statement_it_is_not_run_again(pooled: Database, sql: Sql) -> None:
    """It brings its commit, so nobody knows whether anything was committed."""
    await pooled.transact(pid)
    attempts = 0

    async def work(tx: Transaction) -> None:
        nonlocal attempts
        attempts += 1
        await tx.last(repositories.FIND_TENANT, tenant="acme")

    with sql.transaction():
        sql.execute("lock table tenants")
        working = asyncio.create_task(pooled.transact(work))
        while not sql.execute(f"select {_OURS} and wait_event_type = 'Lock'").fetchall():
            await asyncio.sleep(0.01)
        kill(sql)
    with pytest.raises(CatalogueUnavailableError, match="during the commit"):
        await working
    assert attempts == 1
    await pooled.transact(pid)


async def test_a_transaction_that_the_server_ended_is_run_again(database_url: str, sql: Sql) -> None:
    if sql.info.server_version < 170000:
        pytest.skip("PostgreSQL ends transactions that take too long from 17 on")
    database = Database(database_url, pool_size=1, statement_timeout_s=0.2)  # a transaction takes twice that at most
    attempts = 0

    async def work(tx: Transaction) -> None:
        nonlocal attempts
        attempts += 1
        await pid(tx)
        if attempts == 1:
            await asyncio.sleep(1)
        await pid(tx)

    await database.transact(work)
    assert attempts == 2
    await database.close()


async def test_a_server_that_takes_no_writes_is_unavailable(pooled: Database, sql: Sql) -> None:
    [(name,)] = sql.execute("select quote_ident(current_database())").fetchall()
    sql.execute(f"alter database {name} set default_transaction_read_only = on")
    try:
        with pytest.raises(CatalogueUnavailableError):
            await pooled.transact(lambda tx: make_repository(tx, str(NAME)))
    finally:
        sql.execute(f"alter database {name} reset default_transaction_read_only")
    await pooled.transact(lambda tx: make_repository(tx, str(NAME)))


async def test_a_cancelled_statement_ends_on_the_server_too(pooled: Database, sql: Sql) -> None:
    async def sleep(tx: Transaction) -> None:
        await make_repository(tx, str(NAME))
        await look(tx, "select pg_sleep(60)")

    task = asyncio.create_task(pooled.transact(sleep))
    async with asyncio.timeout(5):
        while "active" not in states(sql):
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert free_slots(pooled) == SIZE
    async with asyncio.timeout(5):
        while set(states(sql)) - {"idle"}:
            await asyncio.sleep(0.02)
    assert sql.execute("select 1 from repositories").fetchall() == []


async def test_cancelled_twice_it_is_still_clean(pooled: Database, sql: Sql) -> None:
    task = asyncio.create_task(pooled.transact(lambda tx: look(tx, "select pg_sleep(60)")))
    async with asyncio.timeout(5):
        while "active" not in states(sql):
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert free_slots(pooled) == SIZE
        while set(states(sql)) - {"idle"}:
            await asyncio.sleep(0.02)


async def test_cancelled_at_any_moment_nothing_leaks(pooled: Database, sql: Sql) -> None:
    chance = random.Random(7)

    async def work(tx: Transaction, number: int) -> None:
        made = await make_repository(tx, f"acme/{number}")
        grants.set_repository_public(tx, made.tenant_id, made.id, public=True)
        await lock_repository(tx, made)
        grants.set_repository_public(tx, made.tenant_id, made.id, public=False)

    async def attempt(number: int) -> bool:
        task = asyncio.create_task(pooled.transact(lambda tx: work(tx, number)))
        await asyncio.sleep(chance.uniform(0, 0.03))
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return False
        return True

    finished = await asyncio.gather(*(attempt(number) for number in range(150)))
    assert free_slots(pooled) == SIZE
    async with asyncio.timeout(5):
        while set(states(sql)) - {"idle"}:
            await asyncio.sleep(0.02)
    assert len(states(sql)) <= SIZE + 2
    committed = {path for (path,) in sql.execute("select path from repositories where not sparse")}
    # One that was cancelled may have been committed just before; one that returned has been.
    assert {str(number) for number, done in enumerate(finished) if done} <= committed
    assert sql.execute("select 1 from repositories where sparse").fetchall() == []
    await asyncio.gather(*(pooled.transact(pid) for _ in range(3 * SIZE)))


async def test_cancelled_while_waiting_for_a_connection(pooled: Database) -> None:
    release = asyncio.Event()

    async def hold(tx: Transaction) -> None:
        await pid(tx)
        await release.wait()

    holders = [asyncio.create_task(pooled.transact(hold)) for _ in range(SIZE)]
    waiters = [asyncio.create_task(pooled.transact(pid)) for _ in range(5)]
    await asyncio.sleep(0.3)
    for waiter in waiters[:4]:
        waiter.cancel()
    release.set()
    await asyncio.gather(*holders)
    assert await waiters[4]
    assert [type(result) for result in await asyncio.gather(*waiters[:4], return_exceptions=True)] == [
        asyncio.CancelledError
    ] * 4


async def test_no_connection_comes_free(database_url: str) -> None:
    database = Database(database_url, pool_size=1, statement_timeout_s=0.3)
    async with database.transaction():
        with pytest.raises(CatalogueUnavailableError, match="DISTSQL_POOL_SIZE"):
            await database.transact(pid)
    await database.transact(pid)
    await database.close()


async def test_many_share_few_connections(pooled: Database, sql: Sql) -> None:
    pids = await asyncio.gather(*(pooled.transact(pid) for _ in range(50)))
    assert len(set(pids)) <= SIZE
    assert len(states(sql)) <= SIZE


async def test_a_connection_that_can_not_be_set_up_gives_its_slot_back() -> None:
    database = Database("postgresql://127.0.0.1:1/x", pool_size=1)
    for _ in range(3):
        with pytest.raises(CatalogueUnavailableError):
            await database.transact(pid)
    assert free_slots(database) == 1


async def test_closed_in_use_a_connection_is_closed_when_it_comes_back(database_url: str, sql: Sql) -> None:
    database = Database(database_url, pool_size=1)
    async with database.transaction() as tx:
        await pid(tx)
        await database.close()
        assert len(states(sql)) == 1
    async with asyncio.timeout(5):
        while states(sql):
            await asyncio.sleep(0.02)
