"""Reads in PostgreSQL's pipeline mode: answers go to whom they belong, errors to whom they concern."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import NamedTuple

import psycopg
import pytest
from sqlalchemy import BigInteger, Float, Integer, Text, cast, func, literal_column, select
from sqlalchemy.sql.elements import ClauseElement

from distsql.oci.digest import Digest
from distsql.sql.connections import Habits
from distsql.sql.pipeline import Pipeline
from distsql.sql.statements import Statement, parameter, registered, statement
from distsql.sql.types import DigestType

pytestmark = pytest.mark.usefixtures("fresh_connections")

Sql = psycopg.Connection[tuple[object, ...]]


class Answer(NamedTuple):
    """One value."""

    value: object


def _made(name: str, clause: ClauseElement) -> Statement[Answer]:
    made = statement(name, "only for these tests", clause, Answer)
    del registered[name]
    return made


ECHO = _made("test_echo", select(parameter("value", BigInteger())))
TEXT = _made(
    "test_text",
    select(func.repeat(cast(parameter("value", Text()), Text()), cast(parameter("times", BigInteger()), Integer()))),
)
DIVIDE = _made("test_divide", select(literal_column("1", BigInteger()).op("/")(parameter("value", BigInteger()))))
SLEEP = _made("test_sleep", select(cast(func.pg_sleep(parameter("seconds", Float())), Text())))
ECHO_DIGEST = _made("test_echo_digest", select(cast(parameter("value", DigestType()), DigestType())))
ECHO_NULL = _made("test_echo_null", select(func.coalesce(parameter("value", Text()), literal_column("'none'", Text()))))


@pytest.fixture
async def pipeline(database_url: str) -> AsyncIterator[Pipeline]:
    async def connect() -> tuple[psycopg.AsyncConnection[tuple[object, ...]], Habits]:
        connection = await psycopg.AsyncConnection.connect(database_url, autocommit=True, application_name="pipelined")
        return connection, Habits()

    opened = Pipeline(connect)
    yield opened
    opened.close()


async def test_answers_go_to_whom_they_belong(pipeline: Pipeline) -> None:
    answers = await asyncio.gather(*(pipeline.fetch(ECHO, {"value": value}) for value in range(500)))
    assert answers == [[(value,)] for value in range(500)]
    assert len(pipeline) == 0


async def test_values_of_every_kind_arrive(pipeline: Pipeline) -> None:
    digest = Digest.of(b"content")
    assert await pipeline.fetch(ECHO_DIGEST, {"value": digest}) == [(digest.packed,)]
    assert await pipeline.fetch(ECHO_NULL, {"value": None}) == [("none",)]
    assert await pipeline.fetch(ECHO_NULL, {"value": "some"}) == [("some",)]
    assert await pipeline.fetch(ECHO_NULL, {"value": None}) == [("none",)]


async def test_small_and_large_numbers_share_a_statement(pipeline: Pipeline) -> None:
    for value in (1, 2**40, -(2**62), 3):
        assert await pipeline.fetch(ECHO, {"value": value}) == [(value,)]


async def test_answers_larger_than_any_buffer(pipeline: Pipeline) -> None:
    big = {"value": "x" * 1000, "times": 5000}
    answers = await asyncio.gather(*(pipeline.fetch(TEXT, big) for _ in range(6)), pipeline.fetch(ECHO, {"value": 7}))
    assert [len(str(rows[0][0])) for rows in answers[:6]] == [5_000_000] * 6
    assert answers[6] == [(7,)]


async def test_parameters_larger_than_any_buffer(pipeline: Pipeline) -> None:
    big = {"value": "x" * 5_000_000, "times": 1}
    answers = await asyncio.gather(*(pipeline.fetch(TEXT, big) for _ in range(6)), pipeline.fetch(ECHO, {"value": 7}))
    assert [len(str(rows[0][0])) for rows in answers[:6]] == [5_000_000] * 6


async def test_an_error_concerns_only_its_own_statement(pipeline: Pipeline) -> None:
    answers = await asyncio.gather(
        *(pipeline.fetch(DIVIDE, {"value": value % 3}) for value in range(30)), return_exceptions=True
    )
    failed = [isinstance(answer, psycopg.errors.DivisionByZero) for answer in answers]
    assert failed == [value % 3 == 0 for value in range(30)]
    assert await pipeline.fetch(DIVIDE, {"value": 1}) == [(1,)]


async def test_a_value_that_has_no_form_in_sql_changes_nothing(pipeline: Pipeline) -> None:
    with pytest.raises(struct.error):
        await pipeline.fetch(ECHO, {"value": object()})
    with pytest.raises(psycopg.DataError):
        await pipeline.fetch(TEXT, {"value": "a\0b", "times": 1})
    assert await pipeline.fetch(ECHO, {"value": 1}) == [(1,)]
    assert await pipeline.fetch(TEXT, {"value": "ab", "times": 1}) == [("ab",)]


async def test_who_stops_waiting_disturbs_nobody(pipeline: Pipeline) -> None:
    slow = asyncio.create_task(pipeline.fetch(SLEEP, {"seconds": 0.2}))
    behind = asyncio.create_task(pipeline.fetch(ECHO, {"value": 1}))
    await asyncio.sleep(0.05)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert await behind == [(1,)]


async def test_a_lost_connection_fails_those_who_wait_and_is_made_anew(pipeline: Pipeline, sql: Sql) -> None:
    await pipeline.fetch(ECHO, {"value": 1})
    waiting = [asyncio.create_task(pipeline.fetch(SLEEP, {"seconds": 5})) for _ in range(3)]
    await asyncio.sleep(0.05)
    sql.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pipelined'")
    for answer in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(answer, psycopg.OperationalError)
    assert await pipeline.fetch(ECHO, {"value": 2}) == [(2,)]


async def test_a_connection_that_died_while_idle_is_noticed(pipeline: Pipeline, sql: Sql) -> None:
    await pipeline.fetch(ECHO, {"value": 1})
    sql.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pipelined'")
    await asyncio.sleep(0.1)
    assert await pipeline.fetch(ECHO, {"value": 2}) == [(2,)]


async def test_closing_fails_those_who_wait(pipeline: Pipeline) -> None:
    await pipeline.fetch(ECHO, {"value": 1})
    waiting = asyncio.create_task(pipeline.fetch(SLEEP, {"seconds": 5}))
    await asyncio.sleep(0.05)
    pipeline.close()
    with pytest.raises(psycopg.OperationalError):
        await waiting


async def test_closing_ends_a_connection_that_is_being_made(database_url: str) -> None:
    """Else it would stay open for as long as the process lives, and nobody's."""
    made: list[psycopg.AsyncConnection[tuple[object, ...]]] = []
    go_on = asyncio.Event()

    async def connect() -> tuple[psycopg.AsyncConnection[tuple[object, ...]], Habits]:
        made.append(await psycopg.AsyncConnection.connect(database_url, autocommit=True))
        await go_on.wait()
        return made[0], Habits()

    pipeline = Pipeline(connect)
    waiting = asyncio.create_task(pipeline.fetch(ECHO, {"value": 1}))
    while not made:
        await asyncio.sleep(0.001)
    pipeline.close()
    go_on.set()
    with pytest.raises(psycopg.OperationalError, match="while it was being made"):
        await waiting
    assert made[0].closed
