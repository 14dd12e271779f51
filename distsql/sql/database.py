"""The one place that runs SQL: where transactions and reads get their connections, and which of them run again."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import psycopg

from distsql.errors import CatalogueUnavailableError, QuotaExceededError
from distsql.sql import usage
from distsql.sql.connections import Connector
from distsql.sql.gathering import Gathering
from distsql.sql.pipeline import Pipeline
from distsql.sql.pool import Pool
from distsql.sql.replicas import PATIENCE_S, Replicas, find_log_position
from distsql.sql.retries import REFUSALS, after, repeat
from distsql.sql.statements import Row, Rows, Statement
from distsql.sql.tenant_setting import KnownTenants, Who
from distsql.sql.tenant_states import find_tenant_state
from distsql.sql.transactions import Observer, Transaction, ending, ignore

P = ParamSpec("P")
Result = TypeVar("Result")

_PIPELINES: Final = 2

SERVE_ROLE: Final = "distsql_serve"
"""Owns nothing: row-level security shows it the rows of one tenant at a time."""


class Database:
    """The catalogue's PostgreSQL, as one process sees it. Opened and closed by its owner.

    With a ``role`` all connections work as that one; as `SERVE_ROLE` they see nothing but what `of` a tenant shows.
    """

    def __init__(
        self,
        url: str,
        *,
        role: str | None = None,
        pool_size: int = 10,
        statement_timeout_s: float = 30,
        lock_timeout_s: float = 10,
        pooler: str = "auto",
        replica_urls: Sequence[str] = (),
        observe: Observer = ignore,
    ) -> None:
        self.url = url
        self.observe = observe
        connector, *to_replicas = (
            Connector(
                each, role=role, statement_timeout_s=statement_timeout_s, lock_timeout_s=lock_timeout_s, pooler=pooler
            )
            for each in (url, *replica_urls)
        )
        self.replicas = Replicas(to_replicas * _PIPELINES, self._find_log_position)
        self._pool = Pool(connector.connect, size=pool_size, wait_s=statement_timeout_s)
        self._known = KnownTenants()
        self._pipelines = [Pipeline(connector.connect, self._known) for _ in range(_PIPELINES)]
        self._reads = Gathering(self._pipelines, self._known)

    @property
    def connections(self) -> dict[str, int]:
        """How many of the pool's connections are in use (``busy``), ``free``, and at ``most`` there."""
        return self._pool.counts

    async def close(self) -> None:
        """Closes the connections that are free now, and those in use when they come back."""
        for pipeline in self._pipelines:
            pipeline.close()
        await self.replicas.close()
        await self._pool.close()

    def of(self, tenant: str, tenant_id: int | None = None) -> TenantDatabase:
        """The catalogue as the tenant of this name sees it.

        With its id, of somebody who is known not to be suspended, its reads needn't look that up.
        """
        return TenantDatabase(self, tenant, tenant_id)

    async def tenant_id(self, tenant: str) -> int | None:
        """The id behind a tenant's name, or None. `TenantSuspendedError` if it is so."""
        return (await self.read_as(tenant, find_tenant_state, tenant)).id

    @asynccontextmanager
    async def transaction(self, *, tenant: str | None = None, slot: int | None = None) -> AsyncIterator[Transaction]:
        """Commits at the end of the block, or changes nothing when it raises."""
        pooled = await self._pool.acquire()
        try:
            who = None if tenant is None else self._known.best(tenant)
            tx = Transaction(pooled, self.observe, who=who, slot=slot)
            yield tx
            await ending(tx.commit())
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
        return await self.read_as(None, query, *args, **kwargs)

    async def read_as(
        self,
        who: Who,
        query: Callable[Concatenate[Transaction, P], Awaitable[Result]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Result:
        """What `read` gives to the tenant. `TenantSuspendedError` if it was so within the last second."""
        reads = _SingleReads(self._reads, who, self.observe)
        try:
            return await query(reads, *args, **kwargs)
        except psycopg.Error as error:
            failure = error
        return await repeat(after(failure, lambda: query(reads, *args, **kwargs)), forget_idle=self.forget_idle)

    def pull_as(
        self,
        who: Who,
        query: Callable[Concatenate[Transaction, P], Awaitable[Result]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Awaitable[Result]:
        """As `read_as`, perhaps by a replica, which has all that was acknowledged before."""
        read = self._read_replicated if len(self.replicas) else self.read_as
        return read(who, query, *args, **kwargs)

    async def _read_replicated(
        self,
        who: Who,
        query: Callable[Concatenate[Transaction, P], Awaitable[Result]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Result:
        replica = await self.replicas.choose()
        if replica is not None:
            connected = replica.connected
            try:
                async with asyncio.timeout(PATIENCE_S):
                    found = await query(_SingleReads(replica.reads, who, self.observe), *args, **kwargs)
            except REFUSALS:
                pass  # it had to choose between the statement and what the primary does: nothing is wrong with it
            except (psycopg.Error, TimeoutError) as error:
                replica.set_aside(str(error) or "no answer")
            else:
                if replica.connected == connected:
                    replica.answered += 1
                    return found
        return await self.read_as(who, query, *args, **kwargs)

    async def _find_log_position(self) -> int:
        row = await self.read(find_log_position)
        if row is None or row.position is None or row.replica:
            raise CatalogueUnavailableError("The database URL leads to a replica, which takes no writes")
        return row.position

    async def transact(
        self,
        work: Callable[[Transaction], Awaitable[Result]],
        *,
        tenant: str | None = None,
        slot: int | None = None,
    ) -> Result:
        """Runs the work in one transaction, again from its beginning when it loses against another one."""

        async def attempt() -> Result:
            async with self.transaction(tenant=tenant, slot=slot) as tx:
                return await work(tx)

        return await repeat(attempt, forget_idle=self.forget_idle)

    async def forget_idle(self) -> None:
        """Closes the free connections."""
        for pipeline in self._pipelines:
            if not len(pipeline):
                pipeline.forget()
        await self._pool.forget_idle()


class _SingleReads(Transaction):
    """Statements that read, each a transaction by itself, over connections that all readers of the process share."""

    __slots__ = ("_observe", "_reads", "_who")

    def __init__(self, reads: Gathering, who: Who, observe: Observer) -> None:
        self._reads = reads
        self._who = who
        self._observe = observe

    async def one(self, statement: Statement[Row], /, **parameters: Any) -> Row | None:
        """As its like, in one step less: this is what most requests wait for."""
        started = time.perf_counter()
        try:
            rows = await self._reads.fetch(statement, parameters, who=self._who)
        finally:
            self._observe(statement.name, seconds=time.perf_counter() - started, round_trips=1)
        return statement.make_row(rows[0]) if rows else None

    async def _fetch(self, statement: Statement[Any], parameters: Mapping[str, Any]) -> Rows:
        started = time.perf_counter()
        try:
            return await self._reads.fetch(statement, parameters, who=self._who)
        finally:
            self._observe(statement.name, seconds=time.perf_counter() - started, round_trips=1)


class TenantDatabase:
    """The catalogue as one tenant sees it: row-level security shows nothing of others, and takes nothing for them.

    As a tenant that isn't there, nothing is seen at all; a transaction may make it (`insert_repository`).
    """

    __slots__ = ("_database", "_tenant", "_who")

    def __init__(self, database: Database, tenant: str, tenant_id: int | None = None) -> None:
        self._database = database
        self._tenant = tenant
        self._who: Who = tenant if tenant_id is None else tenant_id

    def read(
        self,
        query: Callable[Concatenate[Transaction, P], Awaitable[Result]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Awaitable[Result]:
        """As `Database.read`."""
        return self._database.read_as(self._who, query, *args, **kwargs)

    def pull(
        self,
        query: Callable[Concatenate[Transaction, P], Awaitable[Result]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Awaitable[Result]:
        """As `Database.pull_as`: for what may be answered by a replica."""
        return self._database.pull_as(self._who, query, *args, **kwargs)

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """As `Database.transact`. `QuotaExceededError` when the tenant would use more than it may."""
        try:
            return await self._database.transact(work, tenant=self._tenant)
        except QuotaExceededError:
            return await usage.transact_near_limit(self._database, self._tenant, work)


class HasDatabase(Protocol):
    """A service of ``registry/`` whose methods run in transactions: of its tenant, or of the owner."""

    @property
    def database(self) -> TenantDatabase | Database: ...


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
