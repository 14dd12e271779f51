"""Tables that requests write say how they are vacuumed, and where a new version of a row finds room in its page."""

from __future__ import annotations

import re
import time
from typing import Any

import psycopg

from distsql.sql import docs
from distsql.sql.statements import registered
from tests.plans.classes import HOT

docs.load_statements()

BY_DEFAULT = {
    "audit_events": "inserted into only, and partitioned: the default freezes it as it fills",
    "manifest_labels": "by pushes of Docker schema 1 only: nobody changes them, and a round forgets them",
    "repositories": "a row for each repository, written when it is made, deleted or set",
    "tenants": "a row for each tenant, written when it is made or set",
}
Connection = psycopg.Connection[tuple[Any, ...]]


def written_by_requests() -> set[str]:
    written = re.compile(r"\b(?:insert into|update|delete from) (\w+)")
    statements = (registered[name].sql.replace("\n", " ").lower() for name in HOT)
    found = {table for text in statements for table in written.findall(text)}
    return found - {"of", "set", "skip"}  # for update of, do update set


def options(sql: Connection) -> dict[str, dict[str, str]]:
    rows = sql.execute(
        "select relname, reloptions from pg_class "
        "where relnamespace = 'public'::regnamespace and relkind = 'r' and reloptions is not null"
    ).fetchall()
    return {name: dict(each.split("=", 1) for each in found) for name, found in rows}


def test_every_table_that_requests_write_is_vacuumed_in_time(sql: Connection) -> None:
    """Defaults come after a fifth of a table is dead: of five million tags, after a million moves."""
    assert written_by_requests() > {"tags", "uploads", "tenant_usage"}
    chosen = options(sql)
    late = {
        table
        for table in written_by_requests() - BY_DEFAULT.keys()
        if float(chosen.get(table, {}).get("autovacuum_vacuum_scale_factor", 1)) > 0.02
    }
    assert late == set()
    assert BY_DEFAULT.keys() & chosen.keys() == set()


def test_counters_change_in_their_pages(sql: Connection) -> None:
    """What a fillfactor is for: no index has to learn of the new version, and none of the old ones stays."""
    with_room = {table for table, chosen in options(sql).items() if "fillfactor" in chosen}
    assert with_room == {"daily_pulls", "layers", "manifest_pulls", "tag_pulls", "tenant_usage"}
    sql.execute("insert into tenants (id, name) values (1, 'acme')")
    # Old versions also stay while a transaction goes on that is older, even another test's in a database of its own.
    found = [change_a_counter(sql)]
    while found[-1] != (8192, 200, 200) and len(found) < 20:
        time.sleep(0.1)
        found.append(change_a_counter(sql))
    assert found[-1] == (8192, 200, 200), found


def change_a_counter(sql: Connection) -> tuple[object, ...]:
    """200 times: the bytes that the table has then, its updates, and those of them that stayed in their page."""
    sql.execute("truncate tenant_usage")
    sql.execute("select pg_stat_reset_single_table_counters('tenant_usage'::regclass)")
    sql.execute("insert into tenant_usage (tenant_id, slot) select 1, n from generate_series(0, 15) n")
    for _ in range(200):
        sql.execute("update tenant_usage set tags = tags + 1 where tenant_id = 1 and slot = 3")
    sql.execute("select pg_stat_force_next_flush()")
    [found] = sql.execute(
        "select pg_relation_size('tenant_usage'), n_tup_upd, n_tup_hot_upd from pg_stat_user_tables "
        "where relname = 'tenant_usage'"
    ).fetchall()
    return found
