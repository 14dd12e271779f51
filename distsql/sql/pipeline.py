"""Reads of one process over few connections: PostgreSQL's pipeline mode, with one Sync for what is asked together.

A statement is sent without waiting for the answers to those before it, and answers are taken off the socket as they
come: no checkout, no cursor, no task switch but the caller's own. A read by tag costs a third of the client's CPU that
a pooled connection's reused cursor takes. Each Sync ends an implicit transaction: an error touches those statements
that were asked together with it, and of them only what comes behind, which is told and can be asked again.

Ahead of a statement, and in the same flush, goes whose rows it shows: part of the same implicit transaction, under one
Sync; or the statement sets it itself, for each of several tenants (`statements.asked_statement`). For who asks twice in
a row it becomes the connection's own setting, in a transaction by itself, and what comes next from the same is sent
alone. Behind a pooler the next transaction may be another connection's: nothing is kept.

Only for single statements that read. What is slow holds up what was sent behind it, so there are two of them, and the
statement timeout holds here too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import psycopg
from psycopg import adapt, pq
from psycopg.errors import error_from_result

from distsql.sql.connections import Connect, Connection, Habits
from distsql.sql.parameters import Forms
from distsql.sql.statements import Rows, Statement
from distsql.sql.tenant_setting import KnownTenants, SettingStatements, TenantSetting, Who

_BINARY: Final = pq.Format.BINARY
_TEXT: Final = pq.Format.TEXT
_ERRORS: Final = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE)
_TUPLES: Final = pq.ExecStatus.TUPLES_OK
_PREPARED: Final = pq.ExecStatus.COMMAND_OK
_SYNC: Final = pq.ExecStatus.PIPELINE_SYNC
_SKIPPED: Final = pq.ExecStatus.PIPELINE_ABORTED


class Answer(Protocol):
    """Who waits for rows, in the manner of an `asyncio.Future`: told at once, in the turn that received them."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: Rows, /) -> None: ...

    def set_exception(self, exception: Exception, /) -> None: ...


class Question(NamedTuple):
    """A statement, as which tenant it is asked, and for whom."""

    statement: Statement[Any]
    parameters: Mapping[str, Any]
    who: Who
    answer: Answer


_NOBODY: Final = TenantSetting(None)


class StatementSkippedError(psycopg.Error):
    """The statement was not run, as another one failed that was sent ahead of it under the same Sync."""


class _Sent:
    """What was sent, and whose answer has not come yet."""

    __slots__ = ("answer", "error", "name", "parts", "result", "setting", "skipped", "synced", "to_prepare")

    def __init__(
        self, name: str, setting: TenantSetting, answer: Answer | None, *, to_prepare: bool, synced: bool
    ) -> None:
        self.name = name
        self.setting = setting  # under which it is run, or which it is
        self.answer = answer  # none for the setting: nobody asked for it
        self.to_prepare = to_prepare  # it was sent to be prepared too, and the answer to that has not come
        self.synced = synced  # a Sync of its own ends it, else so many answers
        self.parts = 1 + to_prepare
        self.result: pq.abc.PGresult | None = None
        self.error: psycopg.Error | None = None
        self.skipped = False


class Pipeline:
    """One connection in pipeline mode. It connects with the first statement, and again after it was lost."""

    def __init__(self, connect: Connect, known: KnownTenants | None = None) -> None:
        self._connect = connect
        self._known = known or KnownTenants()
        self._connection: Connection | None = None
        self._habits = Habits()
        self._settings = SettingStatements(self._habits)
        self._socket = -1  # remembered: a connection that was lost doesn't tell any more
        self._connecting = asyncio.Lock()
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False
        self._sent: deque[_Sent] = deque()
        self._blocked = False  # the socket took less than there was to send
        self._prepared: set[str] = set()
        self._transformer = adapt.Transformer()
        self._kept = TenantSetting(None)
        self._last: Who = None  # who asked last

    def __len__(self) -> int:
        """How many statements wait for their answer."""
        return len(self._sent)

    def serves(self, who: Who) -> bool:
        """Whether it needn't be told anew who asks."""
        return self._habits.keeps_settings and self._kept.serves(who)

    async def fetch(self, statement: Statement[Any], parameters: Mapping[str, Any], *, who: Who = None) -> Rows:
        """The statement's rows, as the tenant sees them; without one, nobody's.

        Raises psycopg's errors, `psycopg.OperationalError` when the connection was lost, and `TenantSuspendedError`.
        """
        if self._connection is None:
            await self._open()
        answer: asyncio.Future[Rows] = asyncio.get_running_loop().create_future()
        self._ask([Question(statement, parameters, who, answer)])
        return await answer

    def ask(self, questions: Sequence[Question]) -> None:
        """Sends them at once, unless there is no connection yet; each gets what `fetch` gives.

        They share a Sync, and so a transaction: behind one that fails the others get `StatementSkippedError`.
        """
        if self._connection is not None:
            self._ask(questions)
            return
        opening = asyncio.create_task(self._open_and_ask(questions))
        self._opening.add(opening)  # the event loop keeps none alive
        opening.add_done_callback(self._opening.discard)

    async def _open_and_ask(self, questions: Sequence[Question]) -> None:
        try:
            await self._open()
        except Exception as error:  # noqa: BLE001  # it is told those who wait for the answers
            for each in questions:
                each.answer.set_exception(error)
        else:
            self._ask(questions)

    def _ask(self, questions: Sequence[Question]) -> None:
        try:
            self._send(questions)
        except psycopg.OperationalError as error:
            self._drop(str(error))  # it was lost, but the event loop hasn't told us yet
            for each in questions:
                if not each.answer.done():
                    each.answer.set_exception(error)

    def forget(self) -> None:
        """Closes the connection; whoever still waits gets an error, and who asks next another connection."""
        self._drop("it was closed here")

    def close(self) -> None:
        """Closes it for good, also one that is just being made."""
        self._closed = True
        self.forget()

    async def _open(self) -> None:
        async with self._connecting:
            if self._connection is not None:
                return
            connection, self._habits = await self._connect()
            if self._closed:
                connection.pgconn.finish()
                raise psycopg.OperationalError("the connection was closed while it was being made")
            self._settings = SettingStatements(self._habits)
            connection.pgconn.enter_pipeline_mode()
            self._prepared.clear()
            self._transformer = adapt.Transformer(connection)
            self._kept, self._last = TenantSetting(None), None
            self._connection, self._socket = connection, connection.pgconn.socket
            asyncio.get_running_loop().add_reader(self._socket, self._receive)

    # -- sending ------------------------------------------------------------------------------------------------------

    def _send(self, questions: Sequence[Question]) -> None:
        connection = self._connection
        if connection is None:
            raise psycopg.OperationalError("the connection was lost")
        pgconn, setting, last = connection.pgconn, None, None
        for statement, parameters, who, answer in questions:
            # First what may fail: a value that has no form in SQL leaves nothing half sent.
            try:
                values = statement.pack(parameters)
            except Exception as error:  # noqa: BLE001  # it is told who waits for the answer
                answer.set_exception(error)
                continue
            if setting is None or who != setting.who:
                told = statement.sets_tenant and self._habits.keeps_settings
                setting = _NOBODY if told else self._setting(pgconn, who, alone=len(questions) == 1)
            to_prepare = self._send_query(pgconn, statement.name, statement.numbered_sql, values, statement.forms)
            last = _Sent(statement.name, setting, answer, to_prepare=to_prepare, synced=False)
            self._sent.append(last)
            if statement.sets_tenant:
                setting = None  # what comes behind it says again who asks
        if last is not None:
            last.synced = True
            pgconn.pipeline_sync()
            self._flush()

    def _setting(self, pgconn: pq.abc.PGconn, who: Who, *, alone: bool) -> TenantSetting:
        """The one under which the next statement runs; sent, unless the connection has it and nobody else comes."""
        if alone:
            return self._kept if self.serves(who) else self._send_setting(pgconn, who)
        return self._send_setting(pgconn, who, may_keep=False)

    def _send_setting(self, pgconn: pq.abc.PGconn, who: Who, *, may_keep: bool = True) -> TenantSetting:
        keep = may_keep and self._habits.keeps_settings and who == self._last
        self._last = who
        name, sql, value = self._settings.pick(who, keep=keep)
        setting = TenantSetting(who)
        to_prepare = self._send_query(pgconn, name, sql.encode(), [value.encode()], None)
        if keep:  # by itself: together with a statement that fails it would be undone
            pgconn.pipeline_sync()
            self._kept = setting
        self._sent.append(_Sent(name, setting, None, to_prepare=to_prepare, synced=keep))
        return setting

    def _send_query(
        self,
        pgconn: pq.abc.PGconn,
        name: str,
        sql: bytes,
        values: Sequence[bytes | None],
        forms: Forms | None,
    ) -> bool:
        """Sends a statement, prepared if that stays, and tells whether it was sent to be prepared as well.

        Values without a form are texts, and so is what comes back.
        """
        types, formats, result_format = (forms.types, forms.formats, _BINARY) if forms else (None, None, _TEXT)
        if not self._habits.keeps_statements:
            pgconn.send_query_params(sql, values, types, formats, result_format)
            return False
        wire_name = name.encode()
        to_prepare = name not in self._prepared
        if to_prepare:
            pgconn.send_prepare(wire_name, sql, types)
            self._prepared.add(name)
        pgconn.send_query_prepared(wire_name, values, formats, result_format)
        return to_prepare

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
        """One part of the answer to what was sent first."""
        status = result.status
        if status == _TUPLES:
            sent.result = result
        elif status == _PREPARED:
            sent.to_prepare = False
        elif status in _ERRORS:
            sent.error = error_from_result(result)
        elif status == _SKIPPED:
            sent.skipped = True
        sent.parts -= 1
        if status == _SYNC or (not sent.synced and sent.parts == 0):
            self._sent.popleft()
            self._answer(sent)

    def _answer(self, sent: _Sent) -> None:
        if sent.to_prepare:
            self._prepared.discard(sent.name)
        if sent.answer is None:
            self._learn(sent)
        elif sent.answer.done():  # nobody waits any more
            return
        elif error := sent.setting.refusal() or sent.error:
            sent.answer.set_exception(error)
        elif sent.skipped:
            sent.answer.set_exception(StatementSkippedError(f"{sent.name} came behind a statement that failed"))
        elif sent.result is None:
            sent.answer.set_result([])
        else:
            transformer = self._transformer
            transformer.set_pgresult(sent.result)
            sent.answer.set_result(transformer.load_rows(0, sent.result.ntuples, tuple))

    def _learn(self, sent: _Sent) -> None:
        """Whose rows are shown to what was sent behind it."""
        if sent.error is not None:
            if sent.synced:  # they would be those of whoever asked before
                raise sent.error
            sent.setting.error = sent.error  # the same transaction: what came behind it wasn't run
        elif sent.result is not None:
            sent.setting.take(sent.result)
            self._known.learn(sent.setting)

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


def freest(pipelines: Sequence[Pipeline], who: Who) -> Pipeline:
    """Where a statement is answered soonest. To say who asks costs half a statement."""
    return min(pipelines, key=lambda each: len(each) + (0 if each.serves(who) else 0.5))
