"""The one place that runs SQL: connections, transactions, timeouts, retries, and what PostgreSQL's errors mean."""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from distsql.errors import CatalogueUnavailableError, SettingsError
from distsql.sql import constraints, types
from distsql.sql.pipeline import Pipeline, Rows
from distsql.sql.pool import Pool, PooledConnection
from distsql.sql.statements import Row, Statement

P = ParamSpec("P")
Result = TypeVar("Result")

# A transaction lost against another one, and would most likely succeed if it ran again.
LOST_RACES: Final = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.UniqueViolation,
)
# OperationalErrors of a connection that lives on: the statement was refused, nothing is committed.
_REFUSALS: Final = (*LOST_RACES, psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)
# The connection is gone, or leads to a server that takes no writes (any more).
_LOST_CONNECTIONS: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
)
_ATTEMPTS: Final = 8
_PIPELINES: Final = 2
# Plans are made once, for any parameters: planning takes longer than running, and locks every index of every table.
# And what tests/plans sees is what production runs.
_CONFIGURE: Final = (
    "select set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false), "
    "set_config('idle_in_transaction_session_timeout', %s, false), set_config('timezone', 'UTC', false), "
    "set_config('plan_cache_mode', 'force_generic_plan', false), "
    # From PostgreSQL 17 on. The timeout of idle transactions isn't kept after a pipeline: the Flush that psycopg sends
    # last stops its clock.
    "(select set_config(name, %s, false) from pg_settings where name = 'transaction_timeout')"
)
_PREPARED_MAX: Final = 1000  # all statements, in all the combinations of parameters that may be null

json_value = Jsonb
"""Wraps a JSON value for a ``jsonb`` parameter."""


class Observer(Protocol):
    """Hears of every statement that was run; ``round_trips`` is 0 for one that shared another's."""

    def __call__(self, name: str, *, seconds: float, round_trips: int) -> None: ...


def _ignore(name: str, *, seconds: float, round_trips: int) -> None:
    del name, seconds, round_trips


class Transaction:
    """One transaction on one connection.

    What gives no rows is queued and travels with the next statement that does, or with the commit; so does ``begin``.
    A transaction that reads once and writes five times takes two round trips.
    """

    __slots__ = ("_begun", "_observe", "_pending", "_pooled")

    def __init__(self, pooled: PooledConnection, observe: Observer) -> None:
        self._pooled = pooled
        self._observe = observe
        self._pending: list[tuple[str, str, Mapping[str, Any] | None]] = [("begin", "begin", None)]
        self._begun = False

    async def all(self, statement: Statement[Row], /, **parameters: Any) -> list[Row]:
        """Runs the statement, behind everything that was queued, and gives its rows."""
        return [statement.make_row(row) for row in await self._fetch(statement, parameters)]

    async def one(self, statement: Statement[Row], /, **parameters: Any) -> Row | None:
        """Runs the statement and gives its first row, or None."""
        rows = await self._fetch(statement, parameters)
        return statement.make_row(rows[0]) if rows else None

    async def _fetch(self, statement: Statement[Any], parameters: Mapping[str, Any]) -> Rows:
        return await self._send(statement.name, statement.sql, parameters)

    def queue(self, statement: Statement[Any], /, **parameters: Any) -> None:
        """Runs the statement later, but in its turn; its errors come with what it travels with."""
        self._pending.append((statement.name, statement.sql, parameters))

    async def commit(self) -> None:
        """Sends what is queued, and commits. Nothing was sent and nothing is queued: nothing to do."""
        if self._begun or len(self._pending) > 1:
            await self._send("commit", "commit", None)
            if self._pooled.cursor.statusmessage != "COMMIT":
                raise AssertionError("a statement failed and the transaction went on: nothing was committed")

    async def _send(self, name: str, sql: str, parameters: Mapping[str, Any] | None) -> Rows:
        started = time.perf_counter()
        cursor = self._pooled.cursor
        pending, self._pending = self._pending, []
        self._begun = self._begun or bool(pending)
        try:
            if pending:
                async with self._pooled.connection.pipeline():
                    for _, queued_sql, queued_parameters in pending:
                        # A cursor each: one that is used again would wait for its earlier result.
                        queued = self._pooled.connection.cursor(binary=True)
                        await queued.execute(queued_sql, queued_parameters, prepare=queued_parameters is not None)
                    await cursor.execute(sql, parameters, prepare=parameters is not None)
            else:
                await cursor.execute(sql, parameters, prepare=parameters is not None)
            return await cursor.fetchall() if cursor.description else []
        finally:
            seconds = time.perf_counter() - started
            for queued_name, _, _ in pending:
                self._observe(queued_name, seconds=seconds, round_trips=0)
            self._observe(name, seconds=seconds, round_trips=1)


class Database:
    """The catalogue's PostgreSQL, as one process sees it. Opened and closed by its owner."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        statement_timeout_s: float = 30,
        lock_timeout_s: float = 10,
        observe: Observer = _ignore,
    ) -> None:
        self.url = url
        self.observe = observe
        self._timeouts = (statement_timeout_s, lock_timeout_s)
        self._pool = Pool(self._connect_pooled, size=pool_size, wait_s=statement_timeout_s)
        self._pipelines = [Pipeline(self._connect) for _ in range(_PIPELINES)]
        self._reads = _SingleReads(self, self._pipelines)

    async def close(self) -> None:
        """Closes the connections that are free now, and those in use when they come back."""
        for pipeline in self._pipelines:
            pipeline.close()
        await self._pool.close()

    async def _connect_pooled(self) -> PooledConnection:
        return PooledConnection(await self._connect())

    async def _connect(self) -> AsyncConnection[tuple[Any, ...]]:
        statement_s, lock_s = self._timeouts
        try:
            connection: AsyncConnection[tuple[Any, ...]] = await AsyncConnection.connect(
                self.url, autocommit=True, connect_timeout=10, application_name="distsql"
            )
        except psycopg.ProgrammingError as error:
            raise SettingsError(
                f"The database URL can't be read: {error}. Write postgresql://user@host/name"
            ) from error
        try:
            types.register(connection)
            connection.prepared_max = _PREPARED_MAX
            await connection.execute(
                _CONFIGURE,
                [f"{seconds * 1000:.0f}" for seconds in (statement_s, lock_s, 2 * statement_s, 2 * statement_s)],
            )
        except BaseException:
            await connection.close()
            raise
        return connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commits at the end of the block, or changes nothing when it raises."""
        pooled = await self._pool.acquire()
        try:
            tx = Transaction(pooled, self.observe)
            yield tx
            await _commit(tx)
        finally:
            await self._pool.release(pooled)

    async def read(
        self,
        query: Callable[Concatenate[Transaction, P], Awaitable[Result]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Result:
        """Runs a query of one statement, a transaction by itself: one round trip.

        For reads: it is run again when the connection dies under it.
        """
        return await _repeat(self, lambda: query(self._reads, *args, **kwargs))

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Runs the work in one transaction, again from its beginning when it loses against another one."""

        async def attempt() -> Result:
            async with self.transaction() as tx:
                return await work(tx)

        return await _repeat(self, attempt)

    async def forget_idle(self) -> None:
        """Closes the free connections."""
        for pipeline in self._pipelines:
            if not len(pipeline):
                pipeline.close()
        await self._pool.forget_idle()


class _SingleReads(Transaction):
    """Statements that read, each a transaction by itself, over connections that all readers of the process share."""

    __slots__ = ("_database", "_pipelines")

    def __init__(self, database: Database, pipelines: Sequence[Pipeline]) -> None:
        self._database = database
        self._pipelines = pipelines

    async def _fetch(self, statement: Statement[Any], parameters: Mapping[str, Any]) -> Rows:
        started = time.perf_counter()
        try:
            return await min(self._pipelines, key=len).fetch(statement, parameters)
        finally:
            self._database.observe(statement.name, seconds=time.perf_counter() - started, round_trips=1)


async def _commit(tx: Transaction) -> None:
    """Commits; when the connection is lost just now nobody knows the outcome, so it must not be run again."""
    try:
        await tx.commit()
    except _REFUSALS:
        raise
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise CatalogueUnavailableError(
            f"The catalogue's PostgreSQL went away during the commit: {_first_line(error)}"
        ) from error


class HasDatabase(Protocol):
    """A service of ``registry/`` whose methods run in transactions."""

    @property
    def database(self) -> Database: ...


Service = TypeVar("Service", bound=HasDatabase)


def transactional(
    method: Callable[Concatenate[Service, Transaction, P], Awaitable[Result]],
) -> Callable[Concatenate[Service, P], Coroutine[Any, Any, Result]]:
    """Makes a method one transaction: it gets ``tx`` first, commits when it returns, changes nothing when it raises.

    One that loses against another transaction (deadlock, serialization, a row that came or went meanwhile) is run again
    from its beginning, so a method does nothing but SQL.
    """

    async def run(self: Service, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        return await self.database.transact(lambda tx: method(self, tx, *args, **kwargs))

    functools.update_wrapper(run, method)
    return run


async def _repeat(database: Database, run: Callable[[], Awaitable[Result]]) -> Result:
    lost_connections = 0
    for attempt in itertools.count(1):
        try:
            return await run()
        except LOST_RACES as error:
            if attempt >= _ATTEMPTS:
                raise CatalogueUnavailableError("Too many others changed the same rows; try again") from error
            await asyncio.sleep(random.uniform(0, 0.002 * 2**attempt))  # noqa: S311  # jitter, no secret
        except psycopg.IntegrityError as error:
            meaning = constraints.meaning(error)
            if meaning is None:
                raise
            raise meaning from error
        except psycopg.errors.QueryCanceled as error:
            raise CatalogueUnavailableError("The catalogue took longer than DISTSQL_STATEMENT_TIMEOUT") from error
        except psycopg.errors.LockNotAvailable as error:
            raise CatalogueUnavailableError("Others held the same rows longer than DISTSQL_LOCK_TIMEOUT") from error
        except _LOST_CONNECTIONS as error:
            # Nothing was committed (see `_commit`). A connection that died while it was idle is no reason to fail: once
            # more, on a new one.
            await database.forget_idle()
            lost_connections += 1
            if lost_connections > 1:
                raise CatalogueUnavailableError(
                    f"The catalogue's PostgreSQL went away: {_first_line(error)}"
                ) from error
    raise AssertionError("the loop returns or raises")


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0]
