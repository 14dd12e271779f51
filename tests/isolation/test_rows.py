"""What the serving role can do to rows by SQL: as a tenant to its own only, as nobody to none, in every table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from distsql.oci.digest import Digest
from distsql.sql.database import SERVE_ROLE
from tests import postgres
from tests.isolation.things import Stock
from tests.isolation.world import ACME, RIVAL, Origin

Connection = psycopg.Connection[tuple[Any, ...]]

# Tables that the world has no row of, because nothing that it does writes to them.
MAY_BE_EMPTY: Final = {
    "audit_seals",
    "access_changes",
    "accounts",
    "daily_pushes",
    "daily_usage",
    "day_roll_ups",
    "byte_stores",
    "condemned_bytes",
    "daily_pulls",
    "garbage_periods",
    "garbage_queue",
    "image_configs",
    "image_labels",
    "manifest_labels",
    "grants",
    "kept_references",
    "manifest_pulls",
    "retention_policies",
    "retention_rules",
    "retention_runs",
    "pull_batches",
    "turns",
    "verification_findings",
    "verifications",
    "signing_keys",
    "sql_roles",
    "tag_pulls",
    "tenant_usage",
    "webhook_deliveries",
    "webhooks",
}
_OWNED: Final = """
    select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
    and not relispartition and relname <> 'alembic_version' order by 1
"""
_WRITABLE: Final = """
    select attname::text from pg_attribute
    where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = ''
"""


@pytest.fixture(scope="module")
def owner(origin: Origin) -> Iterator[Connection]:
    """The owner's connection to a copy of the world."""
    name = str(conninfo_to_dict(origin.url)["dbname"])
    with (
        postgres.new_database(origin.server, template=name) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        yield connection


@contextmanager
def working_as(owner: Connection, tenant: str | None) -> Iterator[Connection]:
    """The serving role, for a tenant or nobody; undone at the end."""
    with owner.transaction(force_rollback=True):
        owner.execute(f"set local role {SERVE_ROLE}")
        if tenant is not None:
            owner.execute("select set_config('app.tenant_id', tenant_id_of(%s)::text, true)", (tenant,))
        yield owner


def tables(owner: Connection) -> list[tuple[str, str]]:
    """Each with its tenant's column."""
    return [(name, "id" if name == "tenants" else "tenant_id") for (name,) in owner.execute(_OWNED)]


def id_of(owner: Connection, tenant: str) -> int:
    [(found,)] = owner.execute("select id from tenants where name = %s", (tenant,)).fetchall()
    return int(found)


def attempt(connection: Connection, statement: str, table: str, *parameters: object) -> int:
    """How many rows it has seen or changed: none where it isn't allowed."""
    try:
        with connection.transaction():
            query = sql.SQL(statement).format(sql.Identifier(table))
            return connection.execute(query, parameters or None).rowcount
    except psycopg.errors.InsufficientPrivilege:
        return 0


def test_the_world_has_rows_of_both_in_every_table(owner: Connection) -> None:
    for table, column in tables(owner):
        found = owner.execute(f"select count(distinct {column}) from {table} where {column} > 0").fetchall()
        assert found == [(2,)] or table in MAY_BE_EMPTY, table


@pytest.mark.parametrize("tenant", [RIVAL, None, "nobody"])
def test_rows_of_others_are_neither_seen_nor_changed(owner: Connection, tenant: str | None) -> None:
    acme = id_of(owner, ACME)
    for table, column in tables(owner):
        with working_as(owner, tenant) as connection:
            for statement in (
                f"select 1 from {{}} where {column} = %s",
                f"select 1 from {{}} where {column} = %s for update",
                f"update {{}} set {column} = {column} where {column} = %s",
                f"delete from {{}} where {column} = %s",
            ):
                assert attempt(connection, statement, table, acme) == 0, (table, statement)
            if tenant != RIVAL:
                assert attempt(connection, "select 1 from {}", table) == 0, table


@pytest.mark.parametrize("tenant", [RIVAL, None])
def test_nothing_is_written_for_others(owner: Connection, tenant: str | None) -> None:
    """Neither a row that is there already, nor one that could be: with ON CONFLICT both are refused alike."""
    acme = id_of(owner, ACME)
    for table, column in tables(owner):
        columns = ", ".join(f'"{name}"' for (name,) in owner.execute(_WRITABLE, (table,)))
        rows = owner.execute(f"select to_json(t)::text from {table} t where {column} = %s limit 1", (acme,)).fetchall()
        for (row,) in rows:
            with working_as(owner, tenant) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(
                    f"insert into {table} ({columns}) select {columns} from json_populate_record(null::{table}, %s) "
                    "on conflict do nothing",
                    (row,),
                )


def test_a_row_can_t_be_given_away(owner: Connection) -> None:
    acme, rival = id_of(owner, ACME), id_of(owner, RIVAL)
    for table in ("uploads", "tags", "blobs"):
        with working_as(owner, RIVAL) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"update {table} set tenant_id = %s where tenant_id = %s", (acme, rival))


def test_a_foreign_key_doesn_t_tell_what_others_have(owner: Connection, there: Stock, nowhere: Stock) -> None:
    """PostgreSQL checks foreign keys past the policies: only the tenant in them keeps others' rows out of reach."""
    seen = []
    for stock in (there, nowhere):
        with working_as(owner, RIVAL) as connection, pytest.raises(psycopg.errors.ForeignKeyViolation) as caught:
            connection.execute(
                "insert into layers (tenant_id, repository_id, digest) select tenant_id, id, %s from repositories",
                (stock.digest("layer").packed,),
            )
        seen.append((caught.value.diag.constraint_name, stock.hide(caught.value.diag.message_detail or "")))
    assert seen[0] == seen[1]
    acme = id_of(owner, ACME)
    [(repository,)] = owner.execute("select id from repositories where tenant_id = %s limit 1", (acme,)).fetchall()
    for repository_id in (repository, 2**40):
        with working_as(owner, RIVAL) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "insert into layers (tenant_id, repository_id, digest) values (%s, %s, %s)",
                (acme, repository_id, Digest.of(b"x").packed),
            )


def test_no_partition_can_be_reached_past_its_table(owner: Connection) -> None:
    partitions = owner.execute("select relname::text from pg_class where relispartition and relkind = 'r'").fetchall()
    assert partitions
    for (name,) in partitions:
        with working_as(owner, ACME) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"select 1 from {name}")


@pytest.mark.parametrize("power", ["set session_replication_role = replica", "truncate tags", "create table x ()"])
def test_the_role_has_no_way_around(owner: Connection, power: str) -> None:
    with psycopg.connect(owner.info.dsn, password=owner.info.password, autocommit=True) as connection:
        connection.execute(f"set session authorization {SERVE_ROLE}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(power)
        connection.execute("set row_security = off")  # makes what a policy would hide an error, and shows nothing
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select 1 from tags")
