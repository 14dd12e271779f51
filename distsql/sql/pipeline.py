"""Reads of one process over few connections: PostgreSQL's pipeline mode, with one Sync for each statement.

A statement is sent without waiting for the answers to those before it, and answers are taken off the socket as they
come: no checkout, no cursor, no task switch but the caller's own. A read by tag costs a third of the client's CPU that
a pooled connection's reused cursor takes. Each Sync ends an implicit transaction, so an error touches nobody else's
statement.

Only for single statements that read. What is slow holds up what was sent behind it, so there are two of them, and the
statement timeout holds here too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, abc, adapt, pq
from psycopg.errors import error_from_result

from distsql.sql.statements import Statement

# Kept by the connection, in a transaction of its own: together with a statement that fails it would be undone.
SET_TENANT: Final = b"select set_config('app.tenant_id', $1, false)"

_AUTO: Final = [adapt.PyFormat.AUTO]
_BINARY: Final = pq.Format.BINARY
_ERRORS: Final = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE)
_TUPLES: Final = pq.ExecStatus.TUPLES_OK
_PREPARED: Final = pq.ExecStatus.COMMAND_OK
_SYNC: Final = pq.ExecStatus.PIPELINE_SYNC

Rows = list[tuple[Any, ...]]
Connect = Callable[[], Awaitable[AsyncConnection[tuple[Any, ...]]]]


class _Sent:
    """A statement whose answer has not come yet."""

    __slots__ = ("answer", "error", "name", "result", "to_prepare")

    def __init__(self, name: str, answer: asyncio.Future[Rows] | None, *, to_prepare: bool) -> None:
        self.name = name
        self.answer = answer  # none for what nobody asked for: the tenant's setting
        self.to_prepare = to_prepare  # it was sent to be prepared too, and the answer to that has not come
        self.result: pq.abc.PGresult | None = None
        self.error: psycopg.Error | None = None


class Pipeline:
    """One connection in pipeline mode. It connects with the first statement, and again after it was lost."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: AsyncConnection[tuple[Any, ...]] | None = None
        self._socket = -1  # remembered: a connection that was lost doesn't tell any more
        self._connecting = asyncio.Lock()
        self._sent: deque[_Sent] = deque()
        self._blocked = False  # the socket took less than there was to send
        self._prepared: set[str] = set()
        self._transformers: dict[str, abc.Transformer] = {}
        self.tenant_id: int | None = None
        """Whose rows the statement that was sent last sees."""

    def __len__(self) -> int:
        """How many statements wait for their answer."""
        return len(self._sent)

    async def fetch(
        self, statement: Statement[Any], parameters: Mapping[str, Any], *, tenant_id: int | None = None
    ) -> Rows:
        """The statement's rows, as the tenant sees them; without one, nobody's.

        Raises psycopg's errors; `psycopg.OperationalError` when the connection was lost.
        """
        if self._connection is None:
            await self._open()
        try:
            if tenant_id != self.tenant_id:
                self._send_tenant(tenant_id)
            answer = self._send(statement, parameters)
        except psycopg.OperationalError as error:
            self._drop(str(error))  # it was lost, but the event loop hasn't told us yet
            raise
        return await answer

    def close(self) -> None:
        """Closes the connection; whoever still waits gets an error."""
        self._drop("it was closed here")

    async def _open(self) -> None:
        async with self._connecting:
            if self._connection is not None:
                return
            connection = await self._connect()
            connection.pgconn.enter_pipeline_mode()
            self._prepared.clear()
            self._transformers.clear()
            self.tenant_id = None
            self._connection, self._socket = connection, connection.pgconn.socket
            asyncio.get_running_loop().add_reader(self._socket, self._receive)

    # -- sending ------------------------------------------------------------------------------------------------------

    def _send(self, statement: Statement[Any], parameters: Mapping[str, Any]) -> asyncio.Future[Rows]:
        loop = asyncio.get_running_loop()
        connection = self._connection
        if connection is None:
            raise psycopg.OperationalError("the connection was lost")
        name, wire_name = statement.name, statement.name.encode()
        transformer = self._transformers.get(name) or self._transformers.setdefault(name, adapt.Transformer(connection))
        values = transformer.dump_sequence([parameters[each] for each in statement.order], _AUTO * len(statement.order))
        pgconn = connection.pgconn
        to_prepare = name not in self._prepared
        if to_prepare:
            pgconn.send_prepare(wire_name, statement.numbered_sql, transformer.types)
            self._prepared.add(name)
        pgconn.send_query_prepared(wire_name, values, transformer.formats, _BINARY)
        pgconn.pipeline_sync()
        answer: asyncio.Future[Rows] = loop.create_future()
        self._sent.append(_Sent(name, answer, to_prepare=to_prepare))
        self._flush()
        return answer

    def _send_tenant(self, tenant_id: int | None) -> None:
        if self._connection is None:
            raise psycopg.OperationalError("the connection was lost")
        pgconn, name = self._connection.pgconn, "set_tenant"
        to_prepare = name not in self._prepared
        if to_prepare:
            pgconn.send_prepare(name.encode(), SET_TENANT)
            self._prepared.add(name)
        pgconn.send_query_prepared(name.encode(), [b"" if tenant_id is None else b"%d" % tenant_id])
        pgconn.pipeline_sync()
        self._sent.append(_Sent(name, None, to_prepare=to_prepare))
        self.tenant_id = tenant_id

    def _flush(self) -> None:
        """Sends what is buffered; what the socket doesn't take now goes when it can."""
        connection = self._connection
        if connection is None:
            return
        loop = asyncio.get_running_loop()
        if connection.pgconn.flush():
            loop.add_writer(self._socket, self._flush)
            self._blocked = True
        elif self._blocked:
            loop.remove_writer(self._socket)
            self._blocked = False

    # -- receiving ----------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        connection = self._connection
        if connection is None:
            return
        pgconn = connection.pgconn
        try:
            pgconn.consume_input()
            ended = False
            while self._sent and not pgconn.is_busy():
                result = pgconn.get_result()
                if result is not None:
                    self._take(self._sent[0], result)
                elif ended:  # twice nothing: the server has said all that it will
                    break
                ended = result is None
            if pgconn.status == pq.ConnStatus.BAD:
                self._drop("the server closed it")
        except psycopg.Error as error:
            self._drop(str(error))

    def _take(self, sent: _Sent, result: pq.abc.PGresult) -> None:
        """One part of the answer to the statement that was sent first."""
        status = result.status
        if status == _SYNC:
            self._sent.popleft()
            self._answer(sent)
        elif status == _TUPLES:
            sent.result = result
        elif status == _PREPARED:
            sent.to_prepare = False
        elif status in _ERRORS:
            sent.error = error_from_result(result)

    def _answer(self, sent: _Sent) -> None:
        if sent.to_prepare:
            self._prepared.discard(sent.name)
        if sent.answer is None:
            if sent.error is not None:  # what was sent behind it would see another tenant's rows
                raise sent.error
            return
        if sent.answer.done():  # nobody waits any more
            return
        if sent.error is not None:
            sent.answer.set_exception(sent.error)
        elif sent.result is None:
            sent.answer.set_result([])
        else:
            transformer = self._transformers[sent.name]
            transformer.set_pgresult(sent.result)
            sent.answer.set_result(transformer.load_rows(0, sent.result.ntuples, tuple))

    # -- losing the connection ----------------------------------------------------------------------------------------

    def _drop(self, reason: str) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        loop.remove_writer(self._socket)
        self._blocked = False
        connection.pgconn.finish()
        waiting, self._sent = self._sent, deque()
        for sent in waiting:
            if sent.answer is not None and not sent.answer.done():
                sent.answer.set_exception(psycopg.OperationalError(f"the connection was lost: {reason}"))
