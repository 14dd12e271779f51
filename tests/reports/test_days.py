"""Days are rolled up: once, completely, and with no gap when nobody looked for a while."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from distsql import app
from distsql.app import Registry
from distsql.registry.namespace import StoredNamespace
from distsql.settings import Settings
from distsql.sql.days import roll_up_days
from tests.registry.pushing import push_image

Sql = psycopg.Connection[tuple[Any, ...]]
PUSHES = "select repository, day - current_date, pushes, bytes from report.pushes_by_day order by 1, 2"


async def test_pushes_are_the_same_before_and_after(sql: Sql, namespace: StoredNamespace, registry: Registry) -> None:
    for name in ("acme/web", "rival/web"):
        await push_image(namespace.repository(name), b"layer", tags=["v1", "v2"])
    assert {row[1:] for row in sql.execute(PUSHES)} == {(0, 2, 42)}  # the library has no request ids: two events
    sql.execute("update audit_events set at = at - interval '2 days'")
    before = sql.execute(PUSHES).fetchall()
    assert {row[1] for row in before} == {-2}
    await registry.backend.everything.transact(roll_up_days)
    assert sql.execute("select count(*) from daily_pushes").fetchall() == [(2,)]
    assert sql.execute(PUSHES).fetchall() == before
    sql.execute("delete from audit_events")  # exported, and dropped
    await registry.backend.everything.transact(roll_up_days)
    assert sql.execute(PUSHES).fetchall() == before
    await push_image(namespace.repository("acme/web"), b"another", tags=["v1"])
    assert {row for row in sql.execute(PUSHES) if row[0] == "acme/web"} == {
        ("acme/web", -2, *before[0][2:]),
        ("acme/web", 0, 1, 37 + len(b"another")),
    }


async def test_a_day_grows_while_it_is_rolled_up(sql: Sql, namespace: StoredNamespace, registry: Registry) -> None:
    """What is older than ten minutes is added to its day each time, and the rest is counted when it is asked for."""
    for number in range(3):
        await push_image(namespace.repository("acme/web"), b"layer %d" % number, tags=[f"v{number}"])
        sql.execute("update audit_events set at = at - interval '11 minutes'")
        sql.execute("update day_roll_ups set pushes_until = pushes_until - interval '11 minutes'")
        before = sql.execute(PUSHES).fetchall()
        assert sum(row[2] for row in before) == number + 1
        await registry.backend.everything.transact(roll_up_days)
        assert sql.execute(PUSHES).fetchall() == before
        assert sql.execute("select sum(pushes)::bigint from daily_pushes").fetchall() == [(number + 1,)]
    [(told,)] = sql.execute("select pushes_until < now() from day_roll_ups where tenant_id <> 0").fetchall()
    assert told


async def test_a_push_of_several_tags_is_one_wherever_the_roll_up_ends(
    sql: Sql, namespace: StoredNamespace, registry: Registry
) -> None:
    await push_image(namespace.repository("acme/web"), b"layer", tags=["v1", "v2"])
    sql.execute("update audit_events set at = at - interval '1 hour'")
    sql.execute("update audit_events set request_id = 'one' where action = 'manifest.put'")
    [(first, second)] = sql.execute(
        "select min(at), max(at) from audit_events where action = 'manifest.put'"
    ).fetchall()
    assert first < second
    sql.execute("insert into day_roll_ups select id, %s from tenants where name = 'acme'", [second])
    assert sql.execute(PUSHES).fetchall() == []  # it began before, and was counted there
    sql.execute("update audit_events set request_id = 'two' where at = %s", [second])
    assert [row[2] for row in sql.execute(PUSHES)] == [1]
    await registry.backend.everything.transact(roll_up_days)
    assert [row[2] for row in sql.execute(PUSHES)] == [1]


async def test_who_comes_soon_after_another_rolls_nothing_up(
    sql: Sql, namespace: StoredNamespace, registry: Registry
) -> None:
    await push_image(namespace.repository("acme/web"), b"layer")
    everything = registry.backend.everything
    soon = partial(roll_up_days, unless_since=timedelta(minutes=9))
    await everything.transact(soon)
    sql.execute("delete from daily_usage")
    await everything.transact(soon)
    assert sql.execute("select 1 from daily_usage").fetchall() == []
    sql.execute("update day_roll_ups set pushes_until = now() - interval '10 minutes' where tenant_id = 0")
    await everything.transact(soon)
    assert len(sql.execute("select 1 from daily_usage").fetchall()) == 1


async def test_a_server_rolls_up_soon_after_its_start(
    sql: Sql, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_FIRST_ROLL_UP_S", 0.01)
    async with Registry(settings, check_schema=False, serving=True), asyncio.timeout(20):
        while not sql.execute("select 1 from day_roll_ups").fetchall():
            await asyncio.sleep(0.01)
