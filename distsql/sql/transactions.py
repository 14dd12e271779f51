"""One transaction: what it sends together, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

import psycopg
from psycopg.pq.abc import PGresult
from psycopg.types.json import Jsonb

from distsql.errors import CatalogueUnavailableError
from distsql.sql import usage
from distsql.sql.exchanges import Sending
from distsql.sql.pool import PooledConnection
from distsql.sql.retries import REFUSALS, first_line
from distsql.sql.statements import Row, Rows, Statement
from distsql.sql.tenant_setting import Who

Result = TypeVar("Result")

_BEGIN: Final = Sending("begin", b"begin")
_COMMIT: Final = Sending("commit", b"commit")

json_value = Jsonb
"""Wraps a JSON value for a ``jsonb`` parameter."""


class Observer(Protocol):
    """Hears of every statement that was run; ``round_trips`` is 0 for one that shared another's."""

    def __call__(self, name: str, *, seconds: float, round_trips: int) -> None: ...


def ignore(name: str, *, seconds: float, round_trips: int) -> None:
    """An `Observer` that doesn't care."""
    del name, seconds, round_trips


class Later(Generic[Row]):
    """The row of a statement that travels with the next one; known when that was answered."""

    __slots__ = ("row",)

    def __init__(self) -> None:
        self.row: Row | None = None


class Transaction:
    """One transaction on one connection.

    What gives no rows is queued and travels with the next statement that does, or with the commit; so does ``begin``.
    A transaction that reads once and writes five times takes two round trips, one that does all with its `last` one.
    """

    __slots__ = ("_idle", "_later", "_observe", "_pending", "_pooled", "slot")

    def __init__(
        self, pooled: PooledConnection, observe: Observer, *, who: Who = None, slot: int | None = None
    ) -> None:
        self.slot = pooled.number % usage.SLOTS if slot is None else slot
        """Where it counts what it adds to its tenant's use (see `distsql.sql.usage`): transactions of one process in
        slots of their own, or each that finds another in the same waits for that one's commit."""
        self._pooled = pooled
        self._observe = observe
        self._pending = [_BEGIN]
        self._later: dict[int, tuple[Statement[Any], Later[Any]]] = {}  # by their place in what is pending
        self._idle = True
        if who is not None or not pooled.habits.keeps_settings:
            self._pending.append(pooled.set_tenant(who))

    async def all(self, statement: Statement[Row], /, **parameters: Any) -> list[Row]:
        """Runs the statement, behind everything that was queued, and gives its rows."""
        return [statement.make_row(row) for row in await self._fetch(statement, parameters)]

    async def one(self, statement: Statement[Row], /, **parameters: Any) -> Row | None:
        """Runs the statement and gives its first row, or None."""
        rows = await self._fetch(statement, parameters)
        return statement.make_row(rows[0]) if rows else None

    async def last(self, statement: Statement[Row], /, **parameters: Any) -> Row | None:
        """As `one`, with nothing behind it: what it did stays, whatever its row says, so the commit needn't wait.

        If nothing was sent yet, everything goes in one round trip, as an implicit transaction. Not over a connection
        that has been idle for long: should it be dead, nobody would know whether anything was committed.
        """
        if self._pending[:1] != [_BEGIN] or self._later or not self._pooled.is_warm:
            return await self.one(statement, **parameters)
        del self._pending[0]
        rows = await ending(self._fetch(statement, parameters))
        self._idle = True
        return statement.make_row(rows[0]) if rows else None

    def later(self, statement: Statement[Row], /, **parameters: Any) -> Later[Row]:
        """As `queue`, of a statement whose row is looked at when the next one is answered."""
        self._later[len(self._pending)] = statement, (later := Later[Row]())
        self.queue(statement, **parameters)
        return later

    async def _fetch(self, statement: Statement[Any], parameters: Mapping[str, Any]) -> Rows:
        exchange = self._pooled.exchange
        sending = exchange.prepare(statement, {**parameters, **statement.lists([parameters])})
        rows = exchange.rows(await self._send(sending))
        return [row[1:] for row in rows] if statement.asked else rows  # without the number of the only asker

    def queue(self, statement: Statement[Any], /, **parameters: Any) -> None:
        """Runs the statement later, but in its turn; its errors come with what it travels with."""
        self._idle = False
        self._pending.append(self._pooled.exchange.prepare(statement, parameters))

    async def commit(self) -> None:
        """Sends what is queued, and commits. Nothing was sent and nothing is queued: nothing to do."""
        if self._idle:
            return
        if self._pooled.exchange.closed:  # while we thought: nothing is committed, and all of it can be run again
            raise psycopg.errors.IdleInTransactionSessionTimeout("the server ended the transaction before its commit")
        if (await self._send(_COMMIT)).command_status != b"COMMIT":
            raise AssertionError("a statement failed and the transaction went on: nothing was committed")

    async def _send(self, sending: Sending) -> PGresult:
        started = time.perf_counter()
        pending, self._pending = self._pending, []
        laters, self._later = self._later, {}
        self._idle = False
        exchange = self._pooled.exchange
        try:
            results = await exchange.run([*pending, sending])
        finally:
            seconds = time.perf_counter() - started
            for queued in pending:
                self._observe(queued.name, seconds=seconds, round_trips=0)
            self._observe(sending.name, seconds=seconds, round_trips=1)
        for at, (statement, later) in laters.items():
            rows = exchange.rows(results[at])
            later.row = statement.make_row(rows[0]) if rows else None
        return results[-1]


async def ending(sent: Awaitable[Result]) -> Result:
    """What commits; when the connection is lost just now nobody knows the outcome, so it must not be run again."""
    try:
        return await sent
    except REFUSALS:
        raise
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise CatalogueUnavailableError(
            f"The catalogue's PostgreSQL went away during the commit: {first_line(error)}"
        ) from error
