"""Days that are over are rolled up: once, completely, and with no gap when nobody looked for a while."""

from __future__ import annotations

from typing import Any

import psycopg

from distsql.app import Registry
from distsql.registry.namespace import StoredNamespace
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
    assert len(sql.execute(PUSHES).fetchall()) == 3


async def test_days_on_which_nobody_looked_are_as_the_one_before(
    sql: Sql, namespace: StoredNamespace, registry: Registry
) -> None:
    await push_image(namespace.repository("acme/web"), b"layer")
    sql.execute(
        "insert into daily_usage (tenant_id, day, tenant, stored_bytes) "
        "select id, current_date - 3, name, 7 from tenants where name = 'acme'"
    )
    for _ in range(2):
        await registry.backend.everything.transact(roll_up_days)
    found = sql.execute("select current_date - day, tenant, stored_bytes from daily_usage order by day").fetchall()
    # Ten minutes after midnight the newest day is still the one before.
    assert [row for row in found if row[0]] == [(3, "acme", 7), (2, "acme", 7), (1, "acme", 7)]
    assert [row[2] for row in found if not row[0]] == [42]


async def test_two_at_the_same_time_don_t_wait_for_each_other(sql: Sql, registry: Registry) -> None:
    sql.execute("select pg_advisory_lock(hashtext('distsql: days'))")
    await registry.backend.everything.transact(roll_up_days)
    assert sql.execute("select 1 from daily_usage").fetchall() == []
    sql.execute("select pg_advisory_unlock(hashtext('distsql: days'))")
