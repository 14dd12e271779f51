"""Reads that several ask for at the same time: who shares a statement, and that each gets its own answer."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import psycopg
import pytest
from sqlalchemy import BigInteger, Text, cast, func, literal_column, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

from distsql.oci.digest import Digest
from distsql.sql.connections import Habits
from distsql.sql.gathering import Gathering
from distsql.sql.pipeline import Pipeline, Question
from distsql.sql.statements import ASKER, Statement, askers, parameter, registered, statement
from distsql.sql.tenant_setting import Who
from distsql.sql.types import DigestType

Sql = psycopg.Connection[tuple[object, ...]]


class Answer(NamedTuple):
    """One value."""

    value: object


_asked = askers({"value": BigInteger()})
# A row for each positive number, none for 0; division by zero for -1.
RECIPROCAL: Statement[Answer] = statement(
    "test_reciprocal",
    "only for these tests",
    select(
        _asked.c[ASKER],
        literal_column("1000 / (asked.value + 1)", BigInteger()).label("value"),
        func.pg_sleep(literal_column("0.02")).label("pause"),
    ).where(_asked.c.value != literal_column("0")),
    Answer,
    asked=_asked,
)
del registered["test_reciprocal"]
WHO: Statement[Answer] = statement(
    "test_who",
    "only for these tests",
    select(
        _asked.c[ASKER],
        literal_column("coalesce(current_setting('app.tenant_id', true), '')", Text()).label("value"),
    ),
    Answer,
    asked=_asked,
)
del registered["test_who"]


class Counting(Pipeline):
    """Remembers for how many each statement of a flush asked, and as whom."""

    asked: list[list[tuple[int, Who]]]

    def ask(self, questions: Sequence[Question]) -> None:
        self.asked.append([(len(each.parameters["values"]), each.who) for each in questions])
        super().ask(questions)


@pytest.fixture
async def pipeline(database_url: str) -> AsyncIterator[Counting]:
    async def connect() -> tuple[psycopg.AsyncConnection[tuple[object, ...]], Habits]:
        connection = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
        return connection, Habits()

    opened = Counting(connect)
    opened.asked = []
    yield opened
    opened.close()


async def ask(gathering: Gathering, value: int, who: Who = None) -> list[object]:
    rows = await gathering.fetch(RECIPROCAL, {"path": "x", "only_id": None, "value": value}, who=who)
    return [row[0] for row in rows]


async def test_who_asks_at_the_same_time_shares_a_statement(pipeline: Counting) -> None:
    gathering = Gathering([pipeline])
    answers = await asyncio.gather(*(ask(gathering, value) for value in range(10)))
    assert answers == [[], *([1000 // (value + 1)] for value in range(1, 10))]
    assert pipeline.asked == [[(10, None)]]


async def test_who_comes_later_shares_the_next_one(pipeline: Counting) -> None:
    gathering = Gathering([pipeline, pipeline])
    await ask(gathering, 1)
    asked = []
    for value in range(1, 7):
        asked.append(asyncio.create_task(ask(gathering, value)))
        await asyncio.sleep(0.001)
    assert await asyncio.gather(*asked) == [[1000 // (value + 1)] for value in range(1, 7)]
    assert [number for [(number, _)] in pipeline.asked] == [
        1,
        1,
        1,
        4,
    ]  # two are on their way, others wait


async def test_no_flush_is_for_more_than_sixteen(pipeline: Counting) -> None:
    gathering = Gathering([pipeline])
    assert await asyncio.gather(*(ask(gathering, 1) for _ in range(40))) == [[500]] * 40
    assert [number for [(number, _)] in pipeline.asked] == [16, 16, 8]


async def test_tenants_share_a_flush_and_no_statement(pipeline: Counting) -> None:
    gathering = Gathering([pipeline])
    await ask(gathering, 1)
    pipeline.asked.clear()
    answers = await asyncio.gather(*(ask(gathering, value, who) for value, who in ((1, 1), (3, 2), (4, 1), (1, None))))
    assert answers == [[500], [250], [200], [500]]
    assert pipeline.asked == [[(2, 1), (1, 2), (1, None)]]


async def test_each_is_asked_as_its_own_tenant(pipeline: Counting) -> None:
    gathering = Gathering([pipeline])

    async def seen(who: Who, value: int) -> object:
        [(found,)] = await gathering.fetch(WHO, {"path": "x", "only_id": None, "value": value}, who=who)
        return found

    assert await seen(7, 0) == "7"
    for whos in ((3, 7, None, 5), (7, 7), (None,), (7,), (5, None, 7, 3), (None, 7)):
        answers = await asyncio.gather(*(seen(who, value) for value, who in enumerate(whos)))
        assert answers == [str(who or "") for who in whos]


async def test_behind_one_that_fails_the_others_are_asked_again(pipeline: Counting) -> None:
    gathering = Gathering([pipeline])
    await ask(gathering, 1)
    asked = (ask(gathering, value, who) for value, who in ((1, 1), (-1, 2), (3, 3), (-1, 4), (4, 5)))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    failed = psycopg.errors.DivisionByZero
    found = [answer if isinstance(answer, list) else type(answer) for answer in answers]
    assert found == [[500], failed, [250], failed, [200]]
    assert await ask(gathering, 1, 3) == [500]


async def test_an_error_is_told_to_all_who_shared_the_statement(pipeline: Counting) -> None:
    gathering = Gathering([pipeline])
    answers = await asyncio.gather(*(ask(gathering, value) for value in (1, -1)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [psycopg.errors.DivisionByZero] * 2
    assert await ask(gathering, 1) == [500]


async def test_what_can_not_be_asked_is_told_and_disturbs_nobody(pipeline: Counting) -> None:
    gathering = Gathering([pipeline])
    await ask(gathering, 1)
    async with asyncio.timeout(5):
        with pytest.raises(KeyError, match="value"):
            await gathering.fetch(RECIPROCAL, {"path": "x", "only_id": None}, who=None)
        with pytest.raises(struct.error):
            await ask(gathering, "no number")  # type: ignore[arg-type]
        assert await ask(gathering, 1) == [500]


async def test_who_stops_waiting_disturbs_nobody(pipeline: Counting) -> None:
    gathering = Gathering([pipeline])
    leaving, staying = (asyncio.create_task(ask(gathering, value)) for value in (1, 3))
    await asyncio.sleep(0.005)
    leaving.cancel()
    assert await staying == [250]
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_a_lost_connection_is_told_to_all_and_made_anew(pipeline: Counting, sql: Sql) -> None:
    gathering = Gathering([pipeline])
    await ask(gathering, 1)
    asked = [asyncio.create_task(ask(gathering, 1)) for _ in range(3)]
    await asyncio.sleep(0.005)
    pipeline.forget()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [psycopg.OperationalError] * 3
    assert await ask(gathering, 1) == [500]


async def test_nothing_is_remembered_of_who_has_its_answer(pipeline: Counting) -> None:
    gathering = Gathering([pipeline])
    await asyncio.gather(*(ask(gathering, 1, who) for who in range(20)))
    await asyncio.sleep(0.01)
    assert not gathering._waiting  # what would grow with every tenant


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (Text, ["", "a", "b,c", '{"', "ünï", "x" * 100_000, "NULL", None]),
        (BigInteger, [0, -1, 2**62, None]),
        (DigestType, [Digest.of(b"x"), None, Digest.of(b"y", "sha512")]),
        (Text, []),
    ],
)
async def test_lists_arrive_as_they_are(pipeline: Counting, type_: type[TypeEngine[Any]], values: list[Any]) -> None:
    echo = statement(
        "test_echo_array", "only for this test", select(cast(parameter("x", ARRAY(type_)), ARRAY(type_))), Answer
    )
    del registered["test_echo_array"]
    expected = [each.packed if isinstance(each, Digest) else each for each in values]
    assert await pipeline.fetch(echo, {"x": values}) == [(expected,)]
