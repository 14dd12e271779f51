"""The PostgreSQL of the tests: a URL from the environment, a container where there is a Docker engine, or the packaged.

``DISTSQL_TEST_DATABASE_URL`` names a server whose user may create databases. ``DISTSQL_TEST_POSTGRES=docker|packaged``
insists on one way and fails loudly; without it Docker is tried first.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from distsql.embedded import PrivatePostgres
from distsql.sql import schema
from distsql.sql.catalogue import metadata
from tests.places import make_place


@contextmanager
def running_server() -> Iterator[str]:
    """The URL of a server that may create databases."""
    given = os.environ.get("DISTSQL_TEST_DATABASE_URL")
    choice = os.environ.get("DISTSQL_TEST_POSTGRES", "")
    if given:
        yield given
    elif choice == "docker" or (not choice and docker_answers()):
        from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415  # fails without an engine

        with PostgresContainer("postgres:18", driver=None) as container:
            url: str = container.get_connection_url()
            _hurry(url)
            yield url
    elif choice in {"", "packaged"}:
        folder = make_place()
        try:
            with PrivatePostgres(folder) as postgres:
                url = postgres.url(folder)
                _hurry(url)
                yield url
        finally:
            shutil.rmtree(folder)
    else:
        raise ValueError(f"DISTSQL_TEST_POSTGRES is {choice!r}: docker or packaged")


# Tests that kill their server start one of their own: nothing is lost by not waiting for the disk. Nor is anything
# gained by vacuuming databases that live for seconds; and whose statistics change meanwhile are planned for anew.
_HASTE: Final = (
    *("fsync = off", "full_page_writes = off", "synchronous_commit = off", "autovacuum = off"),
    "deadlock_timeout = '100ms'",  # who waits for nobody but the other is told sooner
)


def _hurry(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in _HASTE:
            connection.execute(sql.SQL("alter system set ") + sql.SQL(setting))
        connection.execute("select pg_reload_conf()")
        # Of a password's proof each new connection would compute 4,096 rounds: more than all else that it does here.
        connection.execute("set scram_iterations = 1")
        connection.execute(sql.SQL("alter role current_user password {}").format(conninfo_to_dict(url)["password"]))


def docker_answers() -> bool:
    """Whether there is a Docker engine."""
    if not os.environ.get("DOCKER_HOST") and not Path("/var/run/docker.sock").exists():
        return False  # without asking: docker's client leaks a socket when nobody listens
    import docker  # noqa: PLC0415  # slow to import
    from docker.errors import DockerException  # noqa: PLC0415

    try:
        with closing(docker.from_env(timeout=5)) as client:
            return bool(client.ping())
    except DockerException:
        return False


@contextmanager
def new_database(server_url: str, *, template: str = "template0") -> Iterator[str]:
    """The URL of a new database, which is dropped at the end."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    try:
        yield make_conninfo(server_url, dbname=name)
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@contextmanager
def migrated_template(server_url: str) -> Iterator[str]:
    """The name of a migrated database that is there to be copied: a copy takes a tenth of a migration."""
    with new_database(server_url) as url:
        schema.migrate(url)
        with psycopg.connect(url) as connection:
            connection.execute("delete from audit_events")  # who migrated
        yield str(conninfo_to_dict(url)["dbname"])


_TABLES: Final = [table.name for table in reversed(metadata.sorted_tables)]  # what refers to others first
_SPARED: Final = {"tenants": sql.SQL(" where id <> 0")}
_DELETIONS: Final = {
    name: sql.SQL("delete from {}").format(sql.Identifier(name)) + _SPARED.get(name, sql.SQL("")) for name in _TABLES
}
_FILLED: Final = sql.SQL(" union all ").join(
    sql.SQL("(select {} from {}{} limit 1)").format(name, sql.Identifier(name), _SPARED.get(name, sql.SQL("")))
    for name in _TABLES
)


class Broom:
    """Takes everything out of a catalogue but tenant 0, again and again.

    Deleting the few rows of a test takes less time than truncating its tables. Over one connection, for a new one reads
    all about all tables first.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[str]] | None = None

    def sweep(self) -> None:
        try:
            self._delete()
        except psycopg.OperationalError:  # a test has ended all connections
            self.close()
            self._delete()

    def _delete(self) -> None:
        if self._connection is None:
            self._connection = psycopg.connect(self._url, autocommit=True)
        filled = {name for (name,) in self._connection.execute(_FILLED)}
        for name, delete in _DELETIONS.items():
            if name in filled:
                self._connection.execute(delete)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Owner:
    """A connection that one test after the other looks through: a new one would read all about all tables first."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    @contextmanager
    def looking(self) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """It commits by itself, and nothing of what is set on it is there for the next test."""
        connection = self._connection
        if connection is None or not self._answers(connection):
            self.close()
            # It prepares nothing: that would be gone afterwards, and psycopg believe it there.
            connection = self._connection = psycopg.connect(self._url, autocommit=True, prepare_threshold=None)
        yield connection
        if not self._is_reset(connection):
            self.close()

    @staticmethod
    def _answers(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
        try:
            connection.execute("select")
        except psycopg.OperationalError:  # a test has ended all connections
            return False
        return True

    @staticmethod
    def _is_reset(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
        if connection.info.transaction_status != TransactionStatus.IDLE or not connection.autocommit:
            return False
        try:
            connection.execute("discard all")
        except psycopg.OperationalError:
            return False
        return True

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
