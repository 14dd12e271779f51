"""Whose rows a connection shows: the tenant of the statement, never that of one that was run on it before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Final, NamedTuple

import psycopg
import pytest
from psycopg import sql as composed
from psycopg.conninfo import make_conninfo
from sqlalchemy import BigInteger, Float

from distsql.errors import CatalogueUnavailableError, SettingsError
from distsql.oci.names import RepositoryName
from distsql.sql import health, repositories
from distsql.sql.database import SERVE_ROLE, Database
from distsql.sql.parameters import forms_of
from distsql.sql.statements import Statement
from distsql.sql.transactions import Transaction
from tests.sql.rows import look, make_repository

pytestmark = pytest.mark.usefixtures("fresh_connections")

Sql = psycopg.Connection[tuple[object, ...]]
TENANTS: Final = [f"tenant-{number}" for number in range(30)]
SEEN: Final = "select name from tenants order by 1"


class Seen(NamedTuple):
    """A tenant that can be seen."""

    name: str


# Slowly, or with an error in the middle of others' statements.
LIST_SEEN: Final = Statement(
    "test_list_seen",
    "only for these tests",
    "",
    Seen._make,
    b"select name from tenants, (select pg_sleep($1::float8), 1 / $2::int as one) slept where one = 1 order by 1",
    ("seconds", "divisor"),
    forms=forms_of([Float(), BigInteger()]),
)


async def list_seen(tx: Transaction, seconds: float = 0.0, divisor: int = 1) -> list[str]:
    return [row.name for row in await tx.all(LIST_SEEN, seconds=seconds, divisor=divisor)]


async def look_seen(tx: Transaction) -> list[str]:
    return [str(name) for (name,) in await look(tx, SEEN)]


@pytest.fixture
def filled(database_url: str, sql: Sql) -> str:
    """The URL of a catalogue with many tenants."""
    for name in TENANTS:
        sql.execute("insert into repositories (tenant_id, path) select ensure_tenant(%s), 'web'", (name,))
    return database_url


@pytest.fixture
async def serving(filled: str) -> AsyncIterator[Database]:
    """As a server has it, with one pooled connection for everybody."""
    database = Database(filled, role=SERVE_ROLE, pool_size=1, statement_timeout_s=2)
    yield database
    await database.close()


async def test_a_tenant_sees_itself_and_nobody_sees_anything(serving: Database) -> None:
    for name in TENANTS[:3]:
        assert await serving.of(name).read(list_seen) == [name]
        assert await serving.read(list_seen) == []
        assert await serving.of("nobody").read(list_seen) == []
        assert await serving.of(name).transact(look_seen) == [name]
        assert await serving.transact(look_seen) == []
        assert await serving.of("nobody").transact(look_seen) == []


async def test_the_setting_ends_with_the_transaction(serving: Database) -> None:
    """HAZARDS.md: on a connection that is used again it is empty, not null."""
    await serving.of(TENANTS[0]).transact(look_seen)
    found = await serving.transact(lambda tx: look(tx, "select current_setting('app.tenant_id', true)"))
    assert found == [("",)]


async def test_the_tenant_travels_with_the_first_statement(serving: Database) -> None:
    heard: list[tuple[str, int]] = []
    serving.observe = lambda name, *, seconds, round_trips: heard.append((name, round_trips))
    assert await serving.of(TENANTS[0]).transact(look_seen) == [TENANTS[0]]
    assert heard == [("begin", 0), ("set_tenant", 0), ("look", 1), ("commit", 1)]


async def test_a_transaction_that_made_its_tenant_goes_on_as_it(serving: Database) -> None:
    async def work(tx: Transaction) -> list[str]:
        await make_repository(tx, "newcomer/web")
        return await look_seen(tx)

    assert await serving.of("newcomer").transact(work) == ["newcomer"]
    assert await serving.of("newcomer").read(list_seen) == ["newcomer"]
    assert await serving.transact(look_seen) == []


async def test_a_tenant_that_others_make_is_seen_at_once(serving: Database, sql: Sql) -> None:
    """However often it was asked for before; also by who doesn't wait for the answer."""
    for number in range(10):
        name = f"late-{number}"
        for _ in range(6):
            assert await serving.of(name).read(list_seen) == []
        asked = asyncio.gather(*(serving.of(name).read(list_seen) for _ in range(6)))
        await asyncio.sleep(0)
        sql.execute("select ensure_tenant(%s)", (name,))
        assert await serving.of(name).read(list_seen) == [name]
        await asked


async def test_nothing_is_left_behind_by_what_fails(serving: Database, sql: Sql) -> None:
    """An error, a cancelled task, a server that goes away: the next one on the connection is nobody again."""
    first, second = serving.of(TENANTS[0]), serving.of(TENANTS[1])

    async def fail(tx: Transaction) -> None:
        await look(tx, "select 1 / 0")

    async def sleep(tx: Transaction) -> None:
        await look(tx, "select pg_sleep(60)")

    for statement_of_first in (fail, sleep):
        with pytest.raises((psycopg.errors.DivisionByZero, CatalogueUnavailableError, TimeoutError)):
            async with asyncio.timeout(0.2):
                await first.transact(statement_of_first)
        assert await serving.transact(look_seen) == []
        assert await second.transact(look_seen) == [TENANTS[1]]
    with pytest.raises(psycopg.errors.DivisionByZero):
        await first.read(list_seen, divisor=0)
    assert await serving.read(list_seen) == []
    kill(sql)
    assert await second.read(list_seen) == [TENANTS[1]]
    assert await serving.read(list_seen) == []


def kill(sql: Sql) -> None:
    sql.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'distsql' and datname = current_database()"
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_many_tenants_at_once_see_themselves_only(serving: Database, sql: Sql, seed: int) -> None:
    """Over two shared connections, while some fail, some give up waiting, and the connections are lost now and then."""
    chance = random.Random(seed)
    answered = 0

    async def ask(name: str, what: float) -> None:
        nonlocal answered
        database = serving.of(name)
        try:
            async with asyncio.timeout(0.001 if what < 0.1 else 10):
                if what < 0.3:
                    found = await database.read(list_seen, divisor=0 if what < 0.2 else 1)
                elif what < 0.4:
                    found = await database.transact(look_seen)
                else:
                    found = await database.read(list_seen, seconds=0.002 if what < 0.5 else 0.0)
        except (psycopg.errors.DivisionByZero, CatalogueUnavailableError, TimeoutError):
            return
        assert found == ([name] if name in TENANTS else [])
        answered += 1

    for _ in range(20):
        names = [chance.choice([*TENANTS, "nobody"]) for _ in range(60)]
        asked = [asyncio.create_task(ask(name, chance.random())) for name in names]
        if chance.random() < 0.2:
            await asyncio.sleep(0.005)
            kill(sql)
        await asyncio.gather(*asked)
    assert answered > 500


@pytest.mark.slow  # it waits until what is remembered is too old
async def test_a_name_that_is_another_s_since_shows_nothing_and_heals(
    serving: Database, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name's id may be a second old for who asks again and again. Statements look names up, and find nobody."""
    name, moved = RepositoryName(TENANTS[0], "web"), RepositoryName("moved", "web")
    for _ in range(3):
        before = await serving.of(name.tenant).read(repositories.find_repository, name)
    assert before is not None
    sql.execute("update tenants set name = 'moved' where name = %s", (name.tenant,))
    sql.execute("insert into repositories (tenant_id, path) select ensure_tenant(%s), 'web'", (name.tenant,))
    assert await serving.of(name.tenant).read(repositories.find_repository, name) is None
    assert await serving.of(moved.tenant).read(repositories.find_repository, moved) == before
    made = await serving.of(name.tenant).transact(lambda tx: repositories.insert_repository(tx, name))
    assert (made[0].tenant_id == before.tenant_id, made[1]) == (False, False)
    async with asyncio.timeout(1.5):
        while await serving.of(name.tenant).read(repositories.find_repository, name) != made[0]:
            await asyncio.sleep(0.05)


@pytest.fixture
def stranger(filled: str, sql: Sql) -> Iterator[str]:
    """The URL of a database user who may do nothing."""
    sql.execute("create role stranger login password 'secret'")
    yield make_conninfo(filled, user="stranger", password="secret")
    sql.execute(composed.SQL("drop owned by stranger; drop role stranger"))


async def test_a_user_who_may_not_work_as_the_role_is_told_the_way_out(stranger: str, sql: Sql) -> None:
    database = Database(stranger, role=SERVE_ROLE)
    for ask in (lambda: database.read(health.ping), lambda: database.transact(look_seen)):
        with pytest.raises(SettingsError, match=f"grant {SERVE_ROLE} to"):
            await ask()
    sql.execute(f"grant {SERVE_ROLE} to stranger")
    assert await database.of(TENANTS[0]).read(list_seen) == [TENANTS[0]]
    await database.close()
