"""The PostgreSQL of the tests: a URL from the environment, a container where there is a Docker engine, or the packaged.

``DISTSQL_TEST_DATABASE_URL`` names a server whose user may create databases. ``DISTSQL_TEST_POSTGRES=docker|packaged``
insists on one way and fails loudly; without it Docker is tried first.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from distsql.embedded import PrivatePostgres
from distsql.sql import schema
from distsql.sql.catalogue import metadata


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
            yield container.get_connection_url()
    elif choice in {"", "packaged"}:
        with tempfile.TemporaryDirectory(prefix="distsql-test-") as folder:
            Path(folder).chmod(0o755)  # started by root, the server runs as another user
            with PrivatePostgres(Path(folder)) as postgres:
                url = postgres.url(Path(folder))
                with psycopg.connect(url, autocommit=True) as connection:
                    # Tests that kill this server start their own: nothing is lost by not waiting for the disk.
                    connection.execute("alter system set fsync = off")
                    connection.execute("select pg_reload_conf()")
                yield url
    else:
        raise ValueError(f"DISTSQL_TEST_POSTGRES is {choice!r}: docker or packaged")


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
        yield str(conninfo_to_dict(url)["dbname"])


def empty(url: str) -> None:
    """Takes everything out of the catalogue but tenant 0.

    Deleting the few rows of a test takes half the time that truncating so many tables does.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        for table in reversed(metadata.sorted_tables):  # what refers to others first
            spared = sql.SQL(" where id <> 0") if table.name == "tenants" else sql.SQL("")
            connection.execute(sql.SQL("delete from {}").format(sql.Identifier(table.name)) + spared)
