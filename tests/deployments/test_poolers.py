"""Behind PgBouncer in transaction mode each transaction may have another connection, which others used before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from distsql.app import Registry
from distsql.errors import SettingsError, TenantSuspendedError
from distsql.oci.names import RepositoryName
from distsql.registry.tenants import Tenants
from distsql.settings import Settings
from distsql.sql import health, repositories, schema
from distsql.sql.connections import Connector
from distsql.sql.database import SERVE_ROLE, Database
from distsql.sql.transactions import Transaction
from distsql.values import Caller
from tests import postgres
from tests.deployments.poolers import CARRIES_STATEMENTS, find_pgbouncer, pgbouncer, version_of
from tests.plans.operations import World
from tests.plans.test_budgets import BUDGETS
from tests.sql.rows import look, make_repository
from tests.sql.test_tenant_setting import list_seen, look_seen

pytestmark = [
    pytest.mark.clients,
    pytest.mark.xdist_group("pgbouncer"),
]
TENANTS = [f"tenant-{number}" for number in range(12)]


@pytest.fixture
async def database(pooled_url: str) -> AsyncIterator[Database]:
    """Everything, as the owner."""
    database = Database(pooled_url, pool_size=4)
    yield database
    await database.close()


@pytest.fixture
async def serving(pooled_url: str, database: Database) -> AsyncIterator[Database]:
    async def fill(tx: Transaction) -> None:
        for name in TENANTS:
            await make_repository(tx, f"{name}/web")

    await database.transact(fill)
    serving = Database(pooled_url, role=SERVE_ROLE, pool_size=4)
    yield serving
    await serving.close()


async def test_it_is_noticed(pooled_url: str, database_url: str) -> None:
    for url, kept in ((pooled_url, False), (database_url, True)):
        connector = Connector(url, role=None, statement_timeout_s=5, lock_timeout_s=5)
        connection, habits = await connector.connect()
        await connection.close()
        assert (habits.keeps_settings, habits.keeps_statements) == (kept, kept)


async def test_everybody_sees_what_is_theirs(serving: Database, database: Database) -> None:
    """Tenants, nobody and the owner share two connections; nobody's role or tenant is left for the next one."""
    chance = random.Random(7)

    async def ask(who: str) -> None:
        ways: list[Callable[[], Awaitable[list[str]]]]
        if who == "owner":
            ways = [lambda: database.read(list_seen), lambda: database.transact(look_seen)]
        elif who == "nobody":
            ways = [lambda: serving.read(list_seen), lambda: serving.transact(look_seen)]
        else:
            ways = [lambda: serving.of(who).read(list_seen), lambda: serving.of(who).transact(look_seen)]
        expected = {"owner": sorted(["", *TENANTS]), "nobody": []}.get(who, [who])
        found = await chance.choice(ways)()
        assert [name for name in found if name in TENANTS] == [name for name in expected if name], who

    everybody = [*TENANTS, "owner", "owner", "nobody"]
    for _ in range(8):
        await asyncio.gather(*(ask(chance.choice(everybody)) for _ in range(50)))


async def test_an_error_concerns_only_its_own_statement(serving: Database) -> None:
    async def ask(number: int) -> list[str]:
        return await serving.of(TENANTS[number % 12]).read(list_seen, divisor=min(number % 3, 1))

    answers = await asyncio.gather(*map(ask, range(48)), return_exceptions=True)
    for number, answer in enumerate(answers):
        if number % 3:
            assert answer == [TENANTS[number % 12]]
        else:
            assert isinstance(answer, psycopg.errors.DivisionByZero)


async def test_a_suspended_tenant_hears_so_at_once(serving: Database, database: Database) -> None:
    name = RepositoryName(TENANTS[0], "web")
    assert await serving.of(name.tenant).read(repositories.find_repository, name) is not None
    await database.transact(lambda tx: look(tx, "update tenants set suspended_at = now() where name = 'tenant-0'"))
    with pytest.raises(TenantSuspendedError):
        await serving.of(name.tenant).read(repositories.find_repository, name)


async def test_timeouts_and_the_role_hold_in_every_transaction_and_nothing_is_left(pooled_url: str) -> None:
    database = Database(pooled_url, role=SERVE_ROLE, statement_timeout_s=9, lock_timeout_s=4)
    asked = "select current_user::text, current_setting('statement_timeout'), current_setting('lock_timeout')"
    assert await database.of("nobody").transact(lambda tx: look(tx, asked)) == [(SERVE_ROLE, "9s", "4s")]
    assert await database.transact(lambda tx: look(tx, asked)) == [(SERVE_ROLE, "9s", "4s")]
    await asyncio.gather(*(database.read(health.ping) for _ in range(20)))
    await database.close()
    connections = [await psycopg.AsyncConnection.connect(pooled_url) for _ in range(2)]
    for connection in connections:  # in transactions at the same time: both of PgBouncer's connections
        cursor = await connection.execute(f"{asked}, current_setting('app.tenant_id', true)")
        assert await cursor.fetchone() not in {None, (SERVE_ROLE, "9s", "4s", "")}
        cursor = await connection.execute("select current_user = session_user, count(*) from pg_prepared_statements")
        assert await cursor.fetchone() == (True, 0)
    for connection in connections:
        await connection.close()


@pytest.fixture
def carried_url(pooled_catalogue: tuple[str, str], direct_broom: postgres.Broom, place: Path) -> Iterator[str]:
    """Through a PgBouncer that carries prepared statements along; Debian 12's doesn't."""
    if version_of(find_pgbouncer()) < CARRIES_STATEMENTS:
        pytest.skip("prepared statements need PgBouncer 1.21: DISTSQL_TEST_PGBOUNCER names another one")
    with pgbouncer(pooled_catalogue[0], place, max_prepared_statements=500) as url:
        yield url
    direct_broom.sweep()


async def test_every_operation_works(settings: Settings, pooled_url: str) -> None:
    """With 8 clients at once for 2 connections, none of which may keep anything."""
    await every_operation(replace(settings, database_url=pooled_url))


async def test_every_operation_works_with_prepared_statements(settings: Settings, carried_url: str) -> None:
    await every_operation(replace(settings, database_url=carried_url, pooler="prepared"))
    with psycopg.connect(carried_url, autocommit=True) as connection:
        found = connection.execute("select count(*) from pg_prepared_statements", prepare=False).fetchone()
    assert found is not None
    assert found[0] > 20


async def test_a_pooler_that_carries_no_statements_is_refused_where_they_are_wanted(pooled_url: str) -> None:
    """Twice: nothing of ours is left in the connections that others get."""
    for _ in range(4):
        connector = Connector(pooled_url, role=None, statement_timeout_s=5, lock_timeout_s=5, pooler="prepared")
        with pytest.raises(SettingsError, match=r"PgBouncer 1\.21"):
            await connector.connect()
    with psycopg.connect(pooled_url) as connection:
        found = connection.execute("select count(*) from pg_prepared_statements", prepare=False).fetchone()
    assert found == (0,)


async def every_operation(settings: Settings) -> None:
    async with Registry(settings) as registry:
        backend, caller = registry.backend, Caller(actor="tester")
        tenants = Tenants(backend.everything, caller)
        world = World(registry.namespace.acting_as(caller), backend.database, tenants)

        async def run(prepare: Callable[[World], Awaitable[Callable[[], Awaitable[Any]]]]) -> None:
            call = await prepare(world)
            await call()

        turn = asyncio.Semaphore(8)

        async def in_turn(name: str) -> None:
            async with turn:
                await run(BUDGETS[name].prepare)

        # What removes a repository isn't fair to the others.
        alone = {"remove repository", "put manifest, 300 layers"}
        await asyncio.gather(*map(in_turn, [name for name in BUDGETS if name not in alone]))
        for name in sorted(alone):
            await run(BUDGETS[name].prepare)


def test_migrations_ask_for_postgresql_itself(pooled_url: str) -> None:
    """A lock that two migrations take turns by belongs to a connection, which a pooler gives to others."""
    with pytest.raises(SettingsError, match="pooler"):
        schema.migrate(pooled_url)
    schema.check_revision(pooled_url)
