"""The audit's months are made ahead by a server that runs, whatever happened to it before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from types import SimpleNamespace

import psycopg
import pytest

from distsql.errors import CatalogueUnavailableError
from distsql.sql import revisions

SERVE = import_module("distsql.cli.serve")  # the package gives the command of this name


class Enough(BaseException):
    """Ends what would go on for ever."""


def months(url: str) -> set[str]:
    with psycopg.connect(url) as sql:
        found = sql.execute("select relname::text from pg_class where relispartition and relkind = 'r'").fetchall()
    return {name for (name,) in found}


def test_they_are_made_again_and_again(
    new_catalogue: Callable[[], str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first time the database is away, which is logged; the next times what is missing is made."""
    url, look, waits = new_catalogue(), revisions.has_months_ahead, list[float]()
    ahead = sorted(months(url) - {"audit_events_rest"})

    def look_unless_away(database_url: str) -> bool:
        if not waits:
            raise CatalogueUnavailableError("away")
        return look(database_url)

    def wait(seconds: float) -> None:
        waits.append(seconds)
        with psycopg.connect(url) as sql:
            if len(waits) == 1:
                for month in ahead[-2:]:
                    sql.execute(f"drop table {month}")
                sql.execute(
                    "insert into audit_events (tenant_id, at, id, actor, action) values (0, %s, 1, 'ann', 'late')",
                    [datetime.strptime(ahead[-1], "audit_events_%Y_%m").replace(tzinfo=UTC) + timedelta(days=3)],
                )
            elif len(waits) == 2:
                assert months(url) == {*ahead, "audit_events_rest"}
                home = "select tableoid::regclass::text from audit_events where action = 'late'"
                assert sql.execute(home).fetchall() == [(ahead[-1],)]
                sql.execute(f"drop table {ahead[-1]}")
            else:
                raise Enough

    monkeypatch.setattr(revisions, "has_months_ahead", look_unless_away)
    monkeypatch.setattr(SERVE, "time", SimpleNamespace(sleep=wait))
    with caplog.at_level(logging.WARNING, logger="distsql"), pytest.raises(Enough):
        SERVE._keep_months(url)
    assert months(url) == {*ahead, "audit_events_rest"}
    assert [record.message for record in caplog.records] == ["The audit's partitions could not be made"]
    assert all(0 < seconds <= 24 * 3600 for seconds in waits)
