"""Whether autovacuum keeps up: tags are changed without an end, and what is dead is watched."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import psycopg

# Pages at random, with all that is in them: a five-thousandth of the table, up to five times a second.
_CHANGE: Final = """
update tags set actor = actor
where ctid = any(array(select ctid from tags tablesample system (0.02) where valid_to is null))
"""
_LOOK: Final = """
select n_live_tup, n_dead_tup, autovacuum_count from pg_stat_user_tables where relname = 'tags'
"""
PATIENCE_S: Final = 150
LOOK_S: Final = 0.2


class Watched(NamedTuple):
    """Rows that were changed, the largest share of dead ones that was seen, runs of autovacuum, and the share after."""

    changed: int
    most_dead: float
    vacuums: int
    dead_after: float


def churn(url: str, *, seconds: float, tell: Callable[[str], None]) -> Watched:
    """Changes tags for so long, and then waits for autovacuum, which looks once a minute."""
    changed, most = 0, 0.0
    with psycopg.connect(url, autocommit=True) as connection:
        _, _, before = _look(connection)
        share, vacuums, end = 0.0, before, seconds / LOOK_S
        for look in itertools.count():  # not by a clock, which goes on while a machine is paused
            if look >= end and (vacuums > before or look >= end + PATIENCE_S / LOOK_S):
                break
            if look < end:
                changed += connection.execute(_CHANGE).rowcount
            time.sleep(LOOK_S)
            live, dead, vacuums = _look(connection)
            share = dead / max(1, live)
            most = max(most, share)
            tell(f"{changed:,} tags changed, {share:.1%} are dead, {vacuums - before} vacuums")
        return Watched(changed, most, vacuums - before, share)


def _look(connection: psycopg.Connection[Any]) -> tuple[int, int, int]:
    connection.execute("select pg_stat_clear_snapshot()")
    [(live, dead, vacuums)] = connection.execute(_LOOK).fetchall()
    return live, dead, vacuums
