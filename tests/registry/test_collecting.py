"""Which servers collect garbage by themselves, and by which periods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import psycopg
import pytest

from distsql.app import Registry
from distsql.settings import Settings, load

Sql = psycopg.Connection[tuple[object, ...]]
Works = dict[str, Callable[[], Awaitable[object]]]


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> Works:
    """What a server does by itself, by name; here it begins by being called."""
    found: Works = {}

    class Called:
        """Work that waits for the test."""

        def __init__(self, name: str, work: Callable[[], Awaitable[object]], **times: float | None) -> None:
            found[name] = work

        def begin(self) -> None:
            pass

        async def close(self) -> None:
            pass

    monkeypatch.setattr("distsql.app.Repeated", Called)
    return found


def told(settings: Settings, environ: Mapping[str, str]) -> Settings:
    given = {"database_url": settings.database_url, "storage": settings.storage, "access_log": False}
    return load(given, environ={f"DISTSQL_{name}": text for name, text in environ.items()})


async def test_a_server_collects_by_the_periods_of_its_settings(settings: Settings, works: Works, sql: Sql) -> None:
    environ = {"GC_GRACE": "3h", "RESTORE_PERIOD": "5d", "RECOVERY_WINDOW": "2d"}
    async with Registry(told(settings, environ), check_schema=False, serving=True):
        await works["collecting garbage"]()
    assert sql.execute("select grace, restore_period, recovery_window from garbage_periods").fetchall() == [
        (timedelta(hours=3), timedelta(days=5), timedelta(days=2))
    ]


@pytest.mark.parametrize("environ", [{"GC": "off"}, {"READ_ONLY": "on"}], ids=str)
async def test_a_server_that_must_not_collect_does_not_begin_to(
    settings: Settings, works: Works, environ: Mapping[str, str]
) -> None:
    async with Registry(told(settings, environ), check_schema=False, serving=True):
        assert "rolling up days" in works
        assert "collecting garbage" not in works
