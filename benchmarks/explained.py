"""What each statement took in PostgreSQL, as auto_explain tells its log: EXPLAIN ANALYZE of what really ran.

Only of a private PostgreSQL: the settings are the whole server's, and its log is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import psycopg

from distsql.sql import docs
from distsql.sql.statements import registered

SETTINGS: Final = {
    "session_preload_libraries": "'auto_explain'",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",  # of each node: a clock is read twice for each row
    "auto_explain.log_buffers": "on",
    "auto_explain.log_wal": "on",
}
_ENTRY: Final = re.compile(r"LOG:  duration: ([\d.]+) ms  plan:\n((?:\t.*\n)+)")
_PAGES: Final = re.compile(r"\b(hit|read|fpi)=(\d+)")
_TOTALS: Final = ("Buffers: ", "WAL: ")
_PLAN: Final = re.compile(r"  \(cost=")


class Pages(NamedTuple):
    """What a statement touched; how many weren't in PostgreSQL's buffers, how many were written to its log whole."""

    touched: float
    read: float = 0
    logged: float = 0
    """Whole, as each is when it is changed for the first time after a checkpoint."""


class Run(NamedTuple):
    """One execution of a statement."""

    statement: str
    milliseconds: float
    pages: Pages


def change_settings(url: str, settings: dict[str, str | None]) -> None:
    """Of the whole server; None is the default again."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in settings.items():
            change = f"reset {name}" if value is None else f"set {name} = {value}"
            connection.execute(f"alter system {change}".encode())
        connection.execute("select pg_reload_conf()")


@contextmanager
def explaining(url: str) -> Iterator[None]:
    """Connections that are made meanwhile explain what they run."""
    change_settings(url, dict(SETTINGS))
    try:
        yield
    finally:
        change_settings(url, dict.fromkeys(SETTINGS))


class ExplainedLog:
    """A server's log, read as it grows. It is emptied when it is large: read it more often than that."""

    def __init__(self, path: Path) -> None:
        docs.load_statements()
        self._names = {_plain(each.numbered_sql.decode()): name for name, each in registered.items()}
        self._path = path
        self._offset = path.stat().st_size

    def read(self) -> list[Run]:
        """What was run since the last time."""
        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            file.seek(self._offset if self._offset <= size else 0)
            text = file.read().decode(errors="replace")
            self._offset = file.tell()
        return list(self._parse(text))

    def _parse(self, log: str) -> Iterator[Run]:
        for found in _ENTRY.finditer(log):
            lines = [line[1:] for line in found[2].splitlines()]
            first = next((at for at, line in enumerate(lines) if _PLAN.search(line)), len(lines))
            text, _, _ = " ".join(lines[:first]).removeprefix("Query Text: ").partition("Query Parameters: ")
            name = self._names.get(_plain(text))
            if name is not None:
                # The first lines are the whole plan's: those below are in them. Checks of foreign keys aren't, nor is
                # what is changed beside it (`with ... as (delete ...)`) and nothing reads.
                total = "".join(next((line for line in lines[first:] if kind in line), "") for kind in _TOTALS)
                pages = {kind: int(number) for kind, number in _PAGES.findall(total)}
                read = pages.get("read", 0)
                yield Run(name, float(found[1]), Pages(pages.get("hit", 0) + read, read, pages.get("fpi", 0)))


def _plain(sql: str) -> str:
    return " ".join(sql.split())
