"""What one server does for all: nobody else at the same time, nor before it is due again."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest

from distsql import app
from distsql.app import Registry
from distsql.errors import CatalogueUnavailableError
from distsql.registry import turns as turns_module
from distsql.registry.context import Backend
from distsql.registry.image_labels import ImageLabels
from distsql.registry.turns import Turns, every
from distsql.settings import Settings
from distsql.sql import health
from distsql.sql.database import Database

Sql = psycopg.Connection[tuple[object, ...]]
DAILY = every(timedelta(days=1))


async def test_of_many_who_ask_at_once_one_does_it(backend: Backend) -> None:
    done = list[int]()

    async def work() -> None:
        done.append(len(done))
        await asyncio.sleep(0.05)

    turns = Turns(backend.everything, "work"), Turns(backend.everything, "other")
    for _ in range(2):  # now, and when it isn't due
        await asyncio.gather(*(each.take(work, rest=DAILY) for each in turns * 4))
    assert done == [0, 1]  # each of both once


async def test_it_is_due_when_its_interval_is_nearly_over(backend: Backend, sql: Sql) -> None:
    turns = Turns(backend.everything, "work")
    assert await turns.take(lambda: asyncio.sleep(0), rest=DAILY)
    [(wait,)] = sql.execute("select next_at - now() from turns").fetchall()
    assert isinstance(wait, timedelta)
    assert timedelta(hours=21) < wait < timedelta(hours=21.6)
    for passed, expected in (("20 hours", False), ("22 hours", True)):
        sql.execute("update turns set next_at = now() + %s - %s::interval", [wait, passed])
        assert await turns.take(lambda: asyncio.sleep(0), rest=DAILY) is expected


async def test_who_fails_or_is_killed_leaves_it_to_the_next_after_a_minute(backend: Backend, sql: Sql) -> None:
    turns = Turns(backend.everything, "work")

    async def fail() -> None:
        raise CatalogueUnavailableError("away")

    with pytest.raises(CatalogueUnavailableError):
        await turns.take(fail, rest=DAILY)
    assert not await turns.take(lambda: asyncio.sleep(0), rest=DAILY)
    sql.execute("update turns set next_at = next_at - interval '1 minute'")
    assert await turns.take(lambda: asyncio.sleep(0), rest=DAILY)


async def test_who_works_for_long_keeps_the_turn(backend: Backend, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "_RENEWED_S", 0.01)
    turns = Turns(backend.everything, "work")

    async def work() -> None:
        sql.execute("update turns set next_at = now() - interval '1 hour'")
        async with asyncio.timeout(20):
            while not sql.execute("select 1 from turns where next_at > now()").fetchall():
                await asyncio.sleep(0.01)
        assert not await turns.take(lambda: asyncio.sleep(0), rest=DAILY)

    assert await turns.take(work, rest=DAILY)


async def test_one_of_two_servers_reads_labels_and_ends_long_sessions(
    settings: Settings, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = list[str]()

    async def read_rest(labels: ImageLabels) -> None:
        called.append("labels")

    async def end(database: Database) -> None:
        called.append("sessions")

    monkeypatch.setattr(ImageLabels, "read_rest", read_rest)
    monkeypatch.setattr(app, "end_long_sessions", end)
    monkeypatch.setattr(app, "_LONG_SESSIONS", timedelta(hours=1))
    monkeypatch.setattr(app, "_ASKED_S", 0.01)
    monkeypatch.setattr(app, "_FIRST_UNREAD_LABELS_S", 0.01)
    names = ["reading labels", "ending long sessions of tenants' own roles"]
    done = "select 1 from turns where name = any(%s) and next_at > now() + interval '2 min'"
    async with (
        Registry(settings, check_schema=False, serving=True) as one,
        Registry(settings, check_schema=False, serving=True),
        asyncio.timeout(20),
    ):
        while len(sql.execute(done, [names]).fetchall()) < len(names):
            await asyncio.sleep(0.01)
        for _ in range(10):  # asked again
            await one.backend.everything.read(health.ping)
            await asyncio.sleep(0.01)
    assert sorted(called) == ["labels", "sessions"]
