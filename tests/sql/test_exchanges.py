"""Transactions over libpq's pipeline: values arrive as they were, errors are those of the statement that failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Text,
    Uuid,
    cast,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from distsql.oci.digest import Digest
from distsql.sql.database import Database
from distsql.sql.statements import Statement, parameter, registered, statement, unnamed
from distsql.sql.transactions import Transaction, json_value
from distsql.sql.types import DigestType
from tests.sql.rows import look

pytestmark = pytest.mark.usefixtures("fresh_connections")

Sql = psycopg.Connection[tuple[object, ...]]


class Answer(NamedTuple):
    """One value."""

    value: Any


def echo(name: str, type_: TypeEngine[Any]) -> Statement[Answer]:
    made = statement(f"test_{name}", "only for these tests", select(cast(parameter("value", type_), type_)), Answer)
    del registered[made.name]
    return made


DIGEST = Digest.of(b"content")
VALUES: dict[str, tuple[TypeEngine[Any], list[Any]]] = {
    "text": (Text(), ["", "a", "é\U0001f600", "x" * 100_000]),
    "bigint": (BigInteger(), [0, -1, 2**63 - 1, -(2**63)]),
    "integer": (Integer(), [0, -(2**31)]),
    "boolean": (Boolean(), [True, False]),
    "bytea": (LargeBinary(), [b"", b"\0\xff", bytes(3_000_000)]),
    "digest": (DigestType(), [DIGEST, Digest.of(b"x", "sha512")]),
    "instant": (
        DateTime(timezone=True),
        [datetime(1999, 1, 1, 1, 2, 3, 4, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)],
    ),
    "interval": (Interval(), [timedelta(0), timedelta(days=-3, seconds=5, microseconds=7), timedelta(hours=25)]),
    "uuid": (Uuid(), [UUID(int=5)]),
    "texts": (ARRAY(Text()), [[], ["a", None, ""], [None], ["x"] * 1000]),
    "bigints": (ARRAY(BigInteger()), [[], [1, None, -(2**40)], [None, None]]),
    "integers": (ARRAY(Integer()), [[1, 2]]),
    "booleans": (ARRAY(Boolean()), [[True, None, False]]),
    "instants": (ARRAY(DateTime(timezone=True)), [[datetime(2026, 1, 1, tzinfo=UTC), None]]),
    "dates": (ARRAY(Date()), [[date(2026, 1, 1), date(1970, 1, 1)]]),
    "floats": (ARRAY(Float()), [[0.5]]),  # psycopg writes these: no statement of ours has any
}


@pytest.fixture
async def small(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=1)
    yield database
    await database.close()


async def test_values_of_every_type_arrive_as_they_were(small: Database) -> None:
    async with small.transaction() as tx:
        for name, (type_, values) in VALUES.items():
            made = echo(name, type_)
            for value in [*values, None, values[0]]:
                assert await tx.one(made, value=value) == (value,), name


async def test_documents_and_arrays_of_digests_arrive(small: Database) -> None:
    async with small.transaction() as tx:
        document = {"a": [1, "é"], "b": None}
        assert await tx.one(echo("document", JSONB()), value=json_value(document)) == (document,)
        digests = echo("digests", ARRAY(DigestType()))
        assert await tx.one(digests, value=[DIGEST, None]) == ([DIGEST.packed, None],)
        assert await tx.one(digests, value=[]) == ([],)


@pytest.mark.slow  # it goes over all statements
def test_every_statement_knows_the_forms_of_its_parameters() -> None:
    """Else it would be slow, and never prepared."""
    assert [each.name for each in registered.values() if each.forms is None] == []


async def test_a_value_that_is_no_such_thing_sends_nothing(small: Database) -> None:
    async with small.transaction() as tx:
        with pytest.raises(Exception, match="int"):
            tx.queue(echo("number", BigInteger()), value="three")
        with pytest.raises(UnicodeEncodeError):
            await tx.one(echo("words", Text()), value="\ud800")
        assert await look(tx, "select 1") == [(1,)]


async def test_the_error_is_that_of_the_statement_that_failed(small: Database) -> None:
    async def work(tx: Transaction) -> None:
        tx.queue(unnamed("fine", "select 1"))
        tx.queue(unnamed("wrong", "select 1 / 0"))
        tx.queue(unnamed("behind", "select no_such_column"))
        await look(tx, "select 2")

    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await small.transact(work)
        async with small.transaction() as tx:
            assert await look(tx, "select 3") == [(3,)]


async def test_more_than_the_socket_takes_at_once(small: Database) -> None:
    """What is sent waits for what comes back, and the other way round."""
    big = echo("big", LargeBinary())
    async with small.transaction() as tx:
        for _ in range(5):
            tx.queue(big, value=bytes(1_000_000))
        assert await tx.one(big, value=bytes(3_000_000)) == (bytes(3_000_000),)


async def test_ended_by_the_server_before_its_commit_it_is_run_again(small: Database, sql: Sql) -> None:
    """Once that is known here: nothing can have been committed."""
    pids: list[int] = []

    async def work(tx: Transaction) -> None:
        [(pid,)] = await look(tx, "select pg_backend_pid()")
        pids.append(pid)
        if len(pids) == 1:
            sql.execute("select pg_terminate_backend(%s, 5000)", [pid])
            await asyncio.sleep(0.1)

    await small.transact(work)
    assert len(set(pids)) == 2
