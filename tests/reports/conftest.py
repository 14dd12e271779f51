"""One world for all reports of a worker: they only read."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from distsql.sql.sql_roles import AUDITOR_ROLE
from tests import postgres
from tests.places import make_place
from tests.reports.world import World, age, fill

Connection = psycopg.Connection[tuple[Any, ...]]
ROLE = "distsql_test_reader"


@pytest.fixture(scope="session")
def world(postgres_server: str, template_database: str) -> Iterator[World]:
    folder = make_place()
    with postgres.new_database(postgres_server, template=template_database) as url:
        made = asyncio.run(fill(url, folder / "bytes"))
        with psycopg.connect(url, autocommit=True) as owner:
            age(owner)
            owner.execute("select make_sql_role(%s, 'secret', 30000)", [ROLE])
            owner.execute(
                "insert into sql_roles (tenant_id, role_name) select id, %s from tenants where name = 'acme'", [ROLE]
            )
            owner.execute("analyze")
        try:
            yield World(url=url, acme_role=ROLE, acme_url=make_conninfo(url, user=ROLE, password="secret"), **made)
        finally:
            with psycopg.connect(url, autocommit=True) as owner:
                owner.execute("select drop_sql_role(%s)", [ROLE])
    shutil.rmtree(folder)


@contextmanager
def working_as(url: str, role: str) -> Iterator[Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select set_config('role', %s, false), set_config('timezone', 'UTC', false)", [role])
        yield connection


@pytest.fixture(scope="session")
def auditor(world: World) -> Iterator[Connection]:
    with working_as(world.url, AUDITOR_ROLE) as connection:
        yield connection


@pytest.fixture(scope="session")
def tenant(world: World) -> Iterator[Connection]:
    """The tenant acme's own role, logged in."""
    with psycopg.connect(world.acme_url, autocommit=True) as connection:
        yield connection


Ask = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def ask(auditor: Connection) -> Ask:
    """Rows of a query, as the auditor sees them."""

    def rows(query: str, *parameters: object) -> list[tuple[Any, ...]]:
        return auditor.execute(query, parameters or None).fetchall()

    return rows
