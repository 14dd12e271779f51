"""The schema: which revision a database is at, and how it gets to another. Alembic does it; nothing else changes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Final

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from distsql.errors import CatalogueUnavailableError, SchemaError, SettingsError
from distsql.sql.audit import partition_statements
from distsql.sql.revisions import MONTHS_AHEAD, connect, schema_folder

_TURN_POLL_S: Final = 0.1
_PARTITIONS_LOCK: Final = 0x6D6F6E746873
_PAST_MONTHS: Final = text(
    "select begins from "
    "(select distinct date_trunc('month', at at time zone 'UTC') as begins from audit_events_rest) m "
    "where (begins + interval '1 month') at time zone 'UTC' <= :before order by begins"
)
_MIGRATION_LOCK: Final = 0x6469737473716C  # "distsql": two that migrate at the same time do it in turn


def configuration(connection: Connection | None = None, *, actor: str = "distsql migrate") -> Config:
    """Alembic's."""
    config = Config(schema_folder() / "alembic.ini")
    config.attributes["connection"] = connection
    config.attributes["actor"] = actor
    return config


def head_revision() -> str:
    """The revision that this version works with."""
    head = ScriptDirectory.from_config(configuration()).get_current_head()
    if head is None:
        raise SchemaError("This installation has no migrations: install distsql again")
    return head


def current_revision(url: str) -> str | None:
    """The database's revision, or None when nothing was ever migrated."""
    with _connect(url) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def check_revision(url: str) -> None:
    """Raises `SchemaError` with the command that mends it unless the database is at the revision of this version."""
    current, head = current_revision(url), head_revision()
    if current == head:
        return
    if current is None:
        raise SchemaError("The database has no distsql schema yet: run `distsql migrate` with the same --database-url")
    _check_known(ScriptDirectory.from_config(configuration()), current)
    raise SchemaError(f"The database's schema is at {current}, this version needs {head}: run `distsql migrate`")


def _check_known(script: ScriptDirectory, current: str | None) -> None:
    if current is not None and current not in {each.revision for each in script.walk_revisions()}:
        raise SchemaError(
            f"The database's schema is at {current}, which this version doesn't know: install the version of distsql "
            f"that made it, or go back with that version's `distsql migrate --to {script.get_current_head()}`"
        )


def migrate(url: str, *, to: str = "head", actor: str = "distsql migrate") -> tuple[str | None, str | None]:
    """Takes the schema to a revision, up or down, and gives the revisions before and after.

    Each revision is a transaction, and an event of the audit, as the actor's. Two that migrate at the same time take
    turns. What can't have its locks soon fails, rather than make everybody wait behind it.
    """
    with _connect(url) as connection, _in_turn(connection):
        before = MigrationContext.configure(connection).get_current_revision()
        connection.commit()
        try:
            _move(connection, to, actor=actor)
            after = MigrationContext.configure(connection).get_current_revision()
            if after is not None:
                _make_partitions(connection)
            connection.commit()
        except OperationalError as error:
            if isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise CatalogueUnavailableError(
                    "Others use a table that has to change, and didn't let go of it in time: run `distsql migrate` "
                    "again; what was done before this step is kept"
                ) from error
            raise
    return before, after


def _refuse_poolers(connection: Connection) -> None:
    """A pooler's next transaction may be another connection's, without the lock and the timeouts of this one."""
    here = connection.connection.driver_connection
    if isinstance(here, psycopg.Connection) and here.info.backend_pid != connection.scalar(
        text("select pg_backend_pid()")
    ):
        raise SettingsError(
            "A pooler is between here and PostgreSQL, and migrations need a connection of their own: give the "
            "--database-url of PostgreSQL itself"
        )


@contextmanager
def _in_turn(connection: Connection) -> Iterator[None]:
    _refuse_poolers(connection)
    # Asked again and again: a statement that waits holds a snapshot, for which concurrent index builds would wait.
    while not connection.execute(text("select pg_try_advisory_lock(:key)"), {"key": _MIGRATION_LOCK}).scalar():
        connection.commit()
        time.sleep(_TURN_POLL_S)
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("select pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
        connection.commit()


def plan(url: str, *, to: str = "head") -> list[tuple[str, str]]:
    """What `migrate` would do, up or down: revisions and their titles, in order."""
    script = ScriptDirectory.from_config(configuration())
    with _connect(url) as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if _is_downwards(script, current, to):
        return [(each.revision, f"undo: {each.doc}") for each in script.iterate_revisions(current or "base", to)]
    return [(each.revision, each.doc) for each in script.iterate_revisions(to, current or "base")][::-1]


def make_partitions(url: str) -> None:
    """Makes this month's partition of the audit and the next ones', where they are missing."""
    with _connect(url) as connection:
        _make_partitions(connection)
        connection.commit()


def make_past_partitions(url: str, *, before: datetime) -> None:
    """Makes partitions of months that were over before the instant, and whose events are in that of the rest."""
    with _connect(url) as connection:
        _lock_partitions(connection)
        for month in connection.scalars(_PAST_MONTHS, {"before": before}).all():
            _make_missing(connection, month, 1)
        connection.commit()


def _make_partitions(connection: Connection) -> None:
    _lock_partitions(connection)
    _make_missing(connection, datetime.now(UTC).date(), 1 + MONTHS_AHEAD)


def _lock_partitions(connection: Connection) -> None:
    connection.execute(text("select set_config('lock_timeout', '5s', true)"))  # writers wait behind this one
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _PARTITIONS_LOCK})  # others do this too


def _make_missing(connection: Connection, first: date, months: int) -> None:
    for name, statements in partition_statements(first, months).items():
        if connection.execute(text("select to_regclass(:name)"), {"name": name}).scalar() is None:
            for ddl in statements:
                connection.execute(text(ddl))


def _move(connection: Connection, to: str, *, actor: str) -> None:
    config = configuration(connection, actor=actor)
    current = MigrationContext.configure(connection).get_current_revision()
    move = command.downgrade if _is_downwards(ScriptDirectory.from_config(config), current, to) else command.upgrade
    move(config, to)


def _is_downwards(script: ScriptDirectory, current: str | None, to: str) -> bool:
    """Whether the way from the current revision to the other one leads down; `SchemaError` if there is no such one."""
    if to == "base":
        _check_known(script, current)
        return True
    try:
        target = script.get_revision(to)
    except CommandError as error:
        raise SchemaError(f"There is no revision {to!r}: `alembic history` lists them") from error
    _check_known(script, current)
    below = {each.revision for each in script.iterate_revisions(current, "base")} if current else set()
    return target.revision in below - {current}


def _connect(url: str) -> Connection:
    opened = connect(url)  # not by the engine, which would hide its errors in its own
    return create_engine("postgresql+psycopg://", creator=lambda: opened, poolclass=NullPool).connect()
