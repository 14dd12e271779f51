"""How connections to PostgreSQL are made, and what they keep: alone with the server, or behind a pooler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import set_json_loads

from distsql import cores
from distsql.errors import SettingsError

Connection = AsyncConnection[tuple[Any, ...]]

_CONNECT_TIMEOUT_S: Final = 10


@dataclass(frozen=True, slots=True)
class Habits:
    """What a connection keeps from one transaction to the next."""

    keeps_settings: bool = True
    """Otherwise the next transaction may be another server connection's, so each one brings its settings along."""
    keeps_statements: bool = True
    """Whether a statement that was prepared is there later."""
    settings: tuple[tuple[str, str], ...] = ()
    """What each transaction brings along."""


Connect = Callable[[], Awaitable[tuple[Connection, Habits]]]

_KEEPERS: Final = {"none": (True, True), "prepared": (False, True), "transaction": (False, False)}


class Connector:
    """Opens connections to one PostgreSQL, and finds out what they keep.

    ``pooler`` is ``none``, or what stands between: ``transaction``, a pooler that gives each transaction another
    server connection, such as PgBouncer; ``prepared``, one that carries prepared statements along besides. ``auto``
    asks each connection: who answers for PostgreSQL has a process number of its own.
    """

    def __init__(
        self, url: str, *, role: str | None, statement_timeout_s: float, lock_timeout_s: float, pooler: str = "auto"
    ) -> None:
        self.url = url
        self._role = role
        self._pooler = pooler
        timeouts = {
            "statement_timeout": statement_timeout_s,
            "lock_timeout": lock_timeout_s,
            "idle_in_transaction_session_timeout": 2 * statement_timeout_s,
        }
        self._settings: tuple[tuple[str, str], ...] = (
            *((name, f"{seconds * 1000:.0f}") for name, seconds in timeouts.items()),
            ("timezone", "UTC"),
            # Plans are made once, for any parameters: planning takes longer than running, and locks every index of
            # every table. And what tests/plans sees is what production runs.
            ("plan_cache_mode", "force_generic_plan"),
        )
        if role is not None:
            # What requests look for is in a row for each of their keys, and no key comes twice: to remember rows for
            # the next one took an eighth of a pull's statement.
            self._settings += (("enable_memoize", "off"),)

    async def connect(self) -> tuple[Connection, Habits]:
        """A new connection, ready for use. `SettingsError` when it can never be, else psycopg's errors."""
        try:
            connection: Connection = await AsyncConnection.connect(
                self.url, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S, application_name="distsql"
            )
        except psycopg.ProgrammingError as error:
            raise SettingsError(
                f"The database URL can't be read: {error}. Write postgresql://user@host/name"
            ) from error
        try:
            cores.bring_along(connection.pgconn.backend_pid)
            return connection, await self._prepare(connection)
        except psycopg.errors.InsufficientPrivilege as error:
            await connection.close()
            raise SettingsError(
                f"The database's user may not work as {self._role}: let its owner run `grant {self._role} to ...`"
            ) from error
        except BaseException:
            await connection.close()
            raise

    async def _prepare(self, connection: Connection) -> Habits:
        # Nothing is prepared before it is known whether it stays.
        cursor = await connection.execute(
            "select pg_backend_pid(), current_setting('transaction_timeout', true)", prepare=False
        )
        backend_pid, transaction_timeout = await cursor.fetchone() or (0, None)
        pooler = self._pooler
        if pooler == "auto":
            pooler = "none" if connection.pgconn.backend_pid == backend_pid else "transaction"
        if pooler == "prepared" and connection.pgconn.backend_pid != backend_pid:
            await _check_statements_are_carried(connection)
        keeps_settings, keeps_statements = _KEEPERS[pooler]
        settings = self._settings
        if transaction_timeout is not None:
            # From PostgreSQL 17 on. The timeout of idle transactions isn't kept after a pipeline: the Flush that
            # psycopg sends last stops its clock.
            settings = (*settings, ("transaction_timeout", dict(settings)["idle_in_transaction_session_timeout"]))
        # Behind a pooler the role is always set: others may have left theirs.
        if self._role is not None or not keeps_settings:
            settings = (*settings, ("role", self._role or "none"))
        # A page of referrers has a hundred small documents: Python's own reader takes five times as long for one.
        set_json_loads(msgspec.json.decode, connection)
        # As a transaction's own settings they are gone at once: then this only finds out whether they may be set.
        calls = ", ".join(["set_config(%s, %s, %s)"] * len(settings))
        values = [value for name, setting in settings for value in (name, setting, not keeps_settings)]
        await connection.execute(f"select {calls}", values, prepare=False)
        return Habits(keeps_settings, keeps_statements, () if keeps_settings else settings)


async def _check_statements_are_carried(connection: Connection) -> None:
    """A pooler that carries prepared statements along gives them names of its own: PgBouncer since 1.21, if told to."""
    try:
        async with connection.transaction():
            await connection.execute("select 1", prepare=True)
            ours = await connection.execute(
                "select from pg_prepared_statements where starts_with(name, '_pg3_')", prepare=False
            )
            if not ours.rowcount:
                return
            await connection.execute("deallocate all", prepare=False)  # whoever gets this connection next has none
    except psycopg.errors.DuplicatePreparedStatement:
        pass  # somebody else's of the same name: passed on as it was
    raise SettingsError(
        "The pooler doesn't carry prepared statements from one transaction to the next, as pooler=prepared needs: take "
        "PgBouncer 1.21 or newer with max_prepared_statements above 0, or leave out the setting (DISTSQL_POOLER)"
    )
