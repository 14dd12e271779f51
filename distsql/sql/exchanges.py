"""A connection for transactions: what they send at once is one flush under one Sync, whatever the number of statements.

psycopg's own pipeline costs 100 microseconds of CPU for each statement in it: a cursor, a task switch, a look at each
value's type. Over libpq's functions, and with values packed by `distsql.sql.parameters`, a push of a manifest takes two
fifths of our CPU that it took (`docs/performance.md`).

As in `distsql.sql.pipeline`, but for one transaction at a time: the next is sent when the last was answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import abc, adapt, pq
from psycopg.errors import error_from_result

from distsql.sql.connections import Connection, Habits
from distsql.sql.statements import Rows, Statement

_AUTO: Final = [adapt.PyFormat.AUTO]
_ERRORS: Final = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE)
_TUPLES: Final = pq.ExecStatus.TUPLES_OK
_SYNC: Final = pq.ExecStatus.PIPELINE_SYNC
_CANCEL_WAIT_S: Final = 5


class Sending(NamedTuple):
    """A statement with its values, ready to be sent. Not one that stays prepared if it is for one occasion."""

    name: str
    sql: bytes
    values: Sequence[abc.Buffer | None] = ()
    types: Sequence[int] = ()
    formats: Sequence[int] = ()
    stays: bool = True


class Exchange:
    """One connection in pipeline mode. Closed by its owner."""

    def __init__(self, connection: Connection, habits: Habits) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._socket = connection.pgconn.socket  # remembered: one that was lost doesn't tell any more
        self._keeps_statements = habits.keeps_statements
        self._transformer = adapt.Transformer(connection)
        self._prepared: set[str] = set()
        self._asked: deque[str | None] = deque()  # of each answer that is to come: the statement that it prepares
        self._answer: asyncio.Future[None] | None = None
        self._results: list[pq.abc.PGresult] = []
        self._error: psycopg.Error | None = None
        self._blocked = False  # the socket took less than there was to send
        self._pgconn.enter_pipeline_mode()
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    @property
    def closed(self) -> bool:
        """Whether it can't be used any more."""
        return self._pgconn.status == pq.ConnStatus.BAD

    async def run(self, sendings: Sequence[Sending]) -> list[pq.abc.PGresult]:
        """Sends the statements in their order, and gives the answer to each.

        Outside of a transaction they are one by themselves: it is committed when this returns.

        Raises psycopg's error of the first that failed; those behind it were not run.
        """
        if self.closed:
            raise psycopg.OperationalError("the connection was lost")
        self._results, self._error = [], None
        loop = asyncio.get_running_loop()
        answer = self._answer = loop.create_future()
        try:
            for sending in sendings:
                self._send(sending)
            self._pgconn.pipeline_sync()
            self._flush()
            await answer
        except psycopg.OperationalError as error:
            self._fail(str(error))
            raise
        except asyncio.CancelledError:
            await self._interrupt()
            raise
        if self._error is not None:
            raise self._error
        return self._results

    def rows(self, result: pq.abc.PGresult) -> Rows:
        """What the answer holds."""
        if result.status != _TUPLES:
            return []
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)

    def prepare(self, statement: Statement[Any], parameters: Mapping[str, Any]) -> Sending:
        """The statement with its values as they are sent. Raises what a value raises that has no form in SQL."""
        forms = statement.forms
        if forms is None:
            values = [parameters[name] for name in statement.order]
            dumped = self._transformer.dump_sequence(values, _AUTO * len(values))
            types, formats = self._transformer.types or (), self._transformer.formats or ()
            return Sending(statement.name, statement.numbered_sql, dumped, types, formats, stays=False)
        return Sending(statement.name, statement.numbered_sql, statement.pack(parameters), forms.types, forms.formats)

    async def close(self) -> None:
        """Closes the connection; what the server was doing for it is undone there."""
        self._stop_listening()
        await self._connection.close()

    # -- sending ------------------------------------------------------------------------------------------------------

    def _send(self, sending: Sending) -> None:
        name, sql, values, types, formats, stays = sending
        pgconn = self._pgconn
        if not (stays and self._keeps_statements):
            pgconn.send_query_params(sql, values, types, formats, pq.Format.BINARY)
        else:
            wire_name = name.encode()
            if name not in self._prepared and name not in self._asked:
                pgconn.send_prepare(wire_name, sql, types)
                self._asked.append(name)
            pgconn.send_query_prepared(wire_name, values, formats, pq.Format.BINARY)
        self._asked.append(None)

    def _flush(self) -> None:
        """Sends what is buffered; what the socket doesn't take now goes when it can."""
        loop = asyncio.get_running_loop()
        try:
            left = self._pgconn.flush()
        except psycopg.OperationalError as error:
            self._fail(str(error))
            return
        if left:
            loop.add_writer(self._socket, self._flush)
            self._blocked = True
        elif self._blocked:
            loop.remove_writer(self._socket)
            self._blocked = False

    async def _interrupt(self) -> None:
        """Nobody waits for the answer any more: ends what the server does, so that the connection is free again."""
        if self.closed or self._answer is None:
            return
        ended = self._answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_CANCEL_WAIT_S):
                await self._connection.cancel_safe(timeout=_CANCEL_WAIT_S)
                await ended
        except (psycopg.Error, TimeoutError):
            await self.close()

    # -- receiving ----------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        pgconn = self._pgconn
        try:
            pgconn.consume_input()
            ended = False
            while self._answer is not None and not pgconn.is_busy():
                result = pgconn.get_result()
                if result is not None:
                    self._take(result)
                elif ended:  # twice nothing: the server has said all that it will
                    break
                ended = result is None
        except psycopg.Error as error:
            self._fail(str(error))
        else:
            if pgconn.status == pq.ConnStatus.BAD:
                self._fail("the server closed it")

    def _take(self, result: pq.abc.PGresult) -> None:
        """One part of the answer."""
        status = result.status
        if status == _SYNC:
            self._settle()
            return
        prepared = self._asked.popleft() if self._asked else None
        if status in _ERRORS:
            self._error = self._error or error_from_result(result)
        elif status == pq.ExecStatus.PIPELINE_ABORTED:
            return
        elif prepared is not None:
            self._prepared.add(prepared)
        else:
            self._results.append(result)

    def _settle(self) -> None:
        answer, self._answer = self._answer, None
        self._asked.clear()
        if answer is not None and not answer.done():
            answer.set_result(None)

    def _fail(self, reason: str) -> None:
        """The connection is lost; what the server said last tells best why."""
        self._stop_listening()
        self._pgconn.finish()
        if self._error is None or not self._error.sqlstate:
            self._error = psycopg.OperationalError(f"the connection was lost: {reason}")
        self._settle()

    def _stop_listening(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        loop.remove_writer(self._socket)
        self._blocked = False
