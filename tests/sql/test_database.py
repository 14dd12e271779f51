"""Transactions: what they promise when all goes well, and when a statement doesn't."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import psycopg
import pytest
from sqlalchemy import insert

from distsql.errors import CatalogueUnavailableError, SettingsError
from distsql.oci.names import RepositoryName
from distsql.sql import grants, health, pool, repositories, tags
from distsql.sql.database import SERVE_ROLE, Database
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import TENANT, registered, statement
from distsql.sql.tables import tenants
from distsql.sql.transactions import Transaction
from tests.sql.rows import digest, lock_repository, look, make_digests, make_repository

pytestmark = pytest.mark.usefixtures("fresh_connections")

NAME = RepositoryName("acme", "web")
Sql = psycopg.Connection[tuple[object, ...]]


class NameRow(NamedTuple):
    """A tenant's name."""

    name: str


INSERT_TENANT = statement(
    "test_insert_tenant",
    "only for these tests",
    insert(tenants).values(name=TENANT).returning(tenants.c.name),
    NameRow,
)
del registered["test_insert_tenant"]


class Cost:
    """What the observer heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def __call__(self, name: str, *, seconds: float, round_trips: int) -> None:
        assert seconds >= 0
        self.heard.append((name, round_trips))


@pytest.fixture
async def small(database_url: str) -> AsyncIterator[Database]:
    """One connection, and little patience."""
    database = Database(database_url, pool_size=1, statement_timeout_s=0.4, lock_timeout_s=0.2)
    yield database
    await database.close()


async def pid(tx: Transaction) -> int:
    [(found,)] = await look(tx, "select pg_backend_pid()")
    return int(found)


async def make(tx: Transaction) -> RepositoryRow:
    return await make_repository(tx, str(NAME))


@pytest.mark.usefixtures("database_url")
async def test_what_returns_is_committed(database: Database) -> None:
    made = await database.transact(make)
    assert await database.read(repositories.find_repository, NAME) == made


@pytest.mark.usefixtures("database_url")
async def test_what_raises_has_changed_nothing(database: Database) -> None:
    async def work(tx: Transaction) -> None:
        await make(tx)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await database.transact(work)
    assert await database.read(repositories.find_repository, NAME) is None


async def test_what_was_only_queued_is_dropped_with_an_error(small: Database, sql: Sql) -> None:
    async def work(tx: Transaction) -> None:
        tx.queue(repositories.ENSURE_TENANT, tenant="acme")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await small.transact(work)
    assert sql.execute("select name from tenants where id <> 0").fetchall() == []


async def test_queued_statements_travel_with_the_next_one(small: Database) -> None:
    small.observe = cost = Cost()
    async with small.transaction() as tx:
        tx.queue(repositories.ENSURE_TENANT, tenant="acme")
        tx.queue(repositories.ENSURE_TENANT, tenant="other")
        assert cost.heard == []
        assert await repositories.find_tenant(tx, "acme") is not None
        tx.queue(repositories.ENSURE_TENANT, tenant="third")
    assert cost.heard == [
        ("begin", 0),
        ("ensure_tenant", 0),
        ("ensure_tenant", 0),
        ("find_tenant", 1),
        ("ensure_tenant", 0),
        ("commit", 1),
    ]


async def test_the_last_statement_brings_its_commit(small: Database, sql: Sql) -> None:
    await small.transact(pid)
    small.observe = cost = Cost()
    async with small.transaction() as tx:
        tx.queue(repositories.ENSURE_TENANT, tenant="acme")
        assert await tx.last(INSERT_TENANT, tenant="other") == ("other",)
        assert _names(sql) == ["acme", "other"]
    assert cost.heard == [("ensure_tenant", 0), ("test_insert_tenant", 1)]


async def test_a_last_statement_that_fails_undoes_what_travelled_with_it(small: Database, sql: Sql) -> None:
    async def work(tx: Transaction) -> None:
        tx.queue(repositories.ENSURE_TENANT, tenant="acme")
        await tx.last(INSERT_TENANT, tenant=None)

    with pytest.raises(psycopg.errors.CheckViolation):
        await small.transact(work)
    assert _names(sql) == []
    await small.transact(pid)


async def test_behind_another_statement_the_last_one_waits_for_the_commit(small: Database, sql: Sql) -> None:
    async with small.transaction() as tx:
        await pid(tx)
        await tx.last(INSERT_TENANT, tenant="acme")
        assert _names(sql) == []
    assert _names(sql) == ["acme"]


async def test_over_a_connection_that_was_idle_for_long_the_last_one_waits_too(
    small: Database, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it is dead, nothing was committed: it is run again."""
    await small.transact(pid)
    monkeypatch.setattr(pool, "_WARM_S", 0)
    async with small.transaction() as tx:
        await tx.last(INSERT_TENANT, tenant="acme")
        assert _names(sql) == []
    assert _names(sql) == ["acme"]


async def test_what_is_looked_at_later_travels_with_the_next_one(small: Database) -> None:
    async with small.transaction() as tx:
        first = tx.later(INSERT_TENANT, tenant="first")
        tx.queue(repositories.ENSURE_TENANT, tenant="second")
        nothing = tx.later(repositories.FIND_TENANT, tenant="nobody")
        assert await tx.one(INSERT_TENANT, tenant="third") == ("third",)
        assert (first.row, nothing.row) == (("first",), None)


async def test_what_is_looked_at_later_may_travel_with_the_last_one(small: Database, sql: Sql) -> None:
    await small.transact(pid)
    async with small.transaction() as tx:
        first = tx.later(INSERT_TENANT, tenant="first")
        assert await tx.last(INSERT_TENANT, tenant="second") == ("second",)
        assert first.row == ("first",)
        assert _names(sql) == []  # whoever looks later may still undo it
    assert _names(sql) == ["first", "second"]


def _names(sql: Sql) -> list[object]:
    return [name for (name,) in sql.execute("select name from tenants where id <> 0 order by name")]


async def test_a_read_is_one_round_trip(small: Database) -> None:
    small.observe = cost = Cost()
    await small.read(repositories.find_repository, NAME)
    assert cost.heard == [("find_repository", 1)]


async def test_a_transaction_that_does_nothing_costs_nothing(small: Database) -> None:
    small.observe = cost = Cost()
    async with small.transaction():
        pass
    assert cost.heard == []


async def test_a_statement_that_fails_is_observed_too(small: Database) -> None:
    small.observe = cost = Cost()
    with pytest.raises(CatalogueUnavailableError):
        await small.transact(lambda tx: look(tx, "select pg_sleep(5)"))
    assert ("look", 1) in cost.heard


async def test_an_error_leaves_the_connection_and_its_prepared_statements_usable(small: Database) -> None:
    async with small.transaction() as tx:
        first = await pid(tx)
        made = await make(tx)
        [(prepared,)] = await look(tx, "select count(*) from pg_prepared_statements")

    async def fail(tx: Transaction) -> None:
        # In a pipeline: statements prepared in it, before and behind the one that fails.
        tags.point_tags(tx, made, tags.targets(["latest"], digest=digest("nothing"), actor="ann"))
        grants.set_repository_public(tx, made.tenant_id, made.id, public=True)
        await tags.lock_tag(tx, made, "latest")

    for _ in range(3):
        with pytest.raises(Exception, match="no such manifest"):
            await small.transact(fail)
    async with small.transaction() as tx:
        assert await pid(tx) == first
        [(still_prepared,)] = await look(tx, "select count(*) from pg_prepared_statements")
        assert still_prepared >= prepared
        [target] = await make_digests(tx, made, [1])
        tags.point_tags(tx, made, tags.targets(["latest"], digest=target, actor="ann"))
        grants.set_repository_public(tx, made.tenant_id, made.id, public=True)
        assert await tags.lock_tag(tx, made, "latest") == target


async def test_a_failure_that_was_swallowed_is_no_commit(small: Database, sql: Sql) -> None:
    async def work(tx: Transaction) -> None:
        await make(tx)
        with pytest.raises(psycopg.errors.DivisionByZero):
            await look(tx, "select 1 / 0")

    with pytest.raises(AssertionError, match="nothing was committed"):
        await small.transact(work)
    assert sql.execute("select 1 from repositories").fetchall() == []


async def test_a_slow_statement_is_given_up(small: Database) -> None:
    with pytest.raises(CatalogueUnavailableError, match="DISTSQL_STATEMENT_TIMEOUT"):
        await small.transact(lambda tx: look(tx, "select pg_sleep(5)"))
    await small.transact(pid)


async def test_a_row_that_others_hold_is_given_up(small: Database, sql: Sql) -> None:
    made = await small.transact(make)
    with sql.transaction():
        sql.execute("select 1 from repositories for update")
        with pytest.raises(CatalogueUnavailableError, match="DISTSQL_LOCK_TIMEOUT"):
            await small.transact(lambda tx: lock_repository(tx, made))
    await small.transact(lambda tx: lock_repository(tx, made))


@pytest.mark.parametrize("race", [psycopg.errors.SerializationFailure, psycopg.errors.UniqueViolation])
async def test_a_lost_race_is_run_again(small: Database, race: type[psycopg.Error]) -> None:
    attempts = []

    async def work(tx: Transaction) -> int:
        attempts.append(await pid(tx))
        if len(attempts) < 4:
            raise race
        return len(attempts)

    assert await small.transact(work) == 4
    assert len(set(attempts)) == 1


async def test_a_race_that_is_always_lost_is_given_up(small: Database) -> None:
    async def work(tx: Transaction) -> None:
        raise psycopg.errors.SerializationFailure

    with pytest.raises(CatalogueUnavailableError, match="try again"):
        await small.transact(work)


@pytest.mark.usefixtures("database_url")
async def test_of_a_deadlock_both_get_through(database: Database) -> None:
    rows = [await database.transact(lambda tx, name=name: make_repository(tx, name)) for name in ("a/a", "b/b")]  # type: ignore[misc]
    both_hold_one = asyncio.Barrier(2)
    attempts = 0

    async def work(tx: Transaction, first: RepositoryRow, second: RepositoryRow) -> None:
        nonlocal attempts
        attempts += 1
        await lock_repository(tx, first)
        if attempts <= 2:
            await both_hold_one.wait()
        await lock_repository(tx, second)

    await asyncio.gather(
        database.transact(lambda tx: work(tx, rows[0], rows[1])),
        database.transact(lambda tx: work(tx, rows[1], rows[0])),
    )
    assert attempts == 3


async def test_a_url_that_is_none_is_a_settings_error() -> None:
    database = Database("postgresql://[nonsense")
    for work in (database.transact(pid), database.read(health.ping)):
        with pytest.raises(SettingsError, match="database URL"):
            await work


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    database = Database("postgresql://127.0.0.1:1/x")
    for work in (database.transact(pid), database.read(health.ping)):
        with pytest.raises(CatalogueUnavailableError):
            await work


async def test_sessions_are_set_up(small: Database) -> None:
    async with small.transaction() as tx:
        rows = await look(
            tx,
            "select name, setting from pg_settings where name in ('statement_timeout', 'lock_timeout', 'TimeZone', "
            "'idle_in_transaction_session_timeout', 'plan_cache_mode') order by name",
        )
    assert dict(rows) == {
        "statement_timeout": "400",
        "lock_timeout": "200",
        "idle_in_transaction_session_timeout": "800",
        "TimeZone": "UTC",
        "plan_cache_mode": "force_generic_plan",
    }


async def test_who_serves_remembers_no_rows_for_the_next_key(database_url: str) -> None:
    """As plans are looked at in tests/plans; the owner's collections and reports may."""
    for role, setting in ((None, "on"), (SERVE_ROLE, "off")):
        database = Database(database_url, role=role)
        async with database.transaction() as tx:
            assert await look(tx, "select current_setting('enable_memoize')") == [(setting,)]
        await database.close()


async def test_numbers_of_any_size_share_a_prepared_statement(small: Database) -> None:
    async with small.transaction() as tx:
        for number in (1, 70_000, 2**40):
            await tags.lock_tag(tx, RepositoryRow(number, number, sparse=False), "v1")
        found = await look(tx, "select count(*) from pg_prepared_statements where statement ~ 'FROM tags.*FOR UPDATE$'")
        assert found == [(1,)]
