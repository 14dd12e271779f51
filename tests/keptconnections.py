"""Connections to the tests' catalogue that outlive a test.

A new one is a process of PostgreSQL, which reads the catalogue's tables and plans each statement anew: two fifths of
all tests' time. So what a registry closes, of those to the database that a worker empties after each test, is put aside
as it is behind any pooler, without what a session may set, but with the statements that it has prepared; the next
registry gets it. Only where all is well with it: what is lost, busy or behind a pooler is closed as anywhere.

Tests of how connections are made and lost want `fresh_connections`; other databases, and servers, which are processes
of their own, have none but new ones.
"""

from __future__ import annotations

import asyncio
import select
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

import psycopg
import pytest
from psycopg import pq

from distsql.sql import database, pool
from distsql.sql.connections import Connection, Connector, Habits
from distsql.sql.exchanges import Exchange
from distsql.sql.pipeline import Pipeline

_MOST: Final = 12  # of each role
_connect_anew: Final = Connector.connect


class _Known(NamedTuple):
    role: str | None
    prepared: set[str]


class Kept:
    """What is there for the next who connects, by role, and which statements each has prepared."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.wanted = True
        self._free: defaultdict[str | None, list[Connection]] = defaultdict(list)
        self._known: WeakKeyDictionary[Connection, _Known] = WeakKeyDictionary()

    async def connect(self, connector: Connector) -> tuple[Connection, Habits]:
        """As `Connector.connect`."""
        if not self.wanted or connector.url != self.url:
            return await _connect_anew(connector)
        role = connector._role
        while free := self._free[role]:
            connection = free.pop()
            if _is_well(connection):
                try:
                    return connection, await connector._prepare(connection)
                except BaseException:
                    connection.pgconn.finish()
                    raise
            connection.pgconn.finish()
        connection, habits = await _connect_anew(connector)
        if habits == Habits():
            self._known[connection] = _Known(role, set())
        return connection, habits

    def prepared(self, connection: Connection) -> set[str]:
        """The statements that need no preparing."""
        known = self._known.get(connection)
        return set() if known is None else known.prepared

    def keeps(self, connection: Connection, prepared: set[str]) -> bool:
        """Puts it aside, if it may be."""
        known = self._known.get(connection)
        if known is None or not self.wanted or not _is_well(connection) or len(self._free[known.role]) >= _MOST:
            return False
        pgconn = connection.pgconn
        try:
            pgconn.exit_pipeline_mode()
        except psycopg.OperationalError:  # there are answers that nobody took
            return False
        if pgconn.exec_(b"reset all; discard temp").status != pq.ExecStatus.COMMAND_OK:
            return False
        known.prepared.update(prepared)
        self._free[known.role].append(connection)
        return True

    def close(self) -> None:
        for connection in [each for free in self._free.values() for each in free]:
            connection.pgconn.finish()
        self._free.clear()


def _is_well(connection: Connection) -> bool:
    """Open, outside of any transaction, and nothing was said since."""
    pgconn = connection.pgconn
    if pgconn.status != pq.ConnStatus.OK or pgconn.transaction_status != pq.TransactionStatus.IDLE:
        return False
    readable = select.poll()
    readable.register(pgconn.socket, select.POLLIN)
    return not readable.poll(0)


@contextmanager
def keeping_connections(url: str) -> Iterator[Kept]:
    """Whoever closes a connection to this database, closes none."""
    kept = Kept(url)

    class KeptExchange(Exchange):
        def __init__(self, connection: Connection, habits: Habits) -> None:
            super().__init__(connection, habits)
            self._prepared |= kept.prepared(connection)

        async def close(self) -> None:
            self._stop_listening()
            if self._answer is not None or not kept.keeps(self._connection, self._prepared):
                await super().close()

    class KeptPipeline(Pipeline):
        async def _open(self) -> None:
            await super()._open()
            if self._connection is not None:
                self._prepared |= kept.prepared(self._connection)

        def _drop(self, reason: str) -> None:
            connection = self._connection
            if connection is not None and not self._sent and kept.keeps(connection, self._prepared):
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._socket)
                loop.remove_writer(self._socket)
                self._connection, self._blocked = None, False
            else:
                super()._drop(reason)

    async def connect(connector: Connector) -> tuple[Connection, Habits]:
        return await kept.connect(connector)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Connector, "connect", connect)
        patched.setattr(pool, "Exchange", KeptExchange)
        patched.setattr(database, "Pipeline", KeptPipeline)
        try:
            yield kept
        finally:
            kept.close()
