"""Where alembic runs: ``distsql migrate`` passes its connection, the ``alembic`` program takes DISTSQL_DATABASE_URL."""

from __future__ import annotations

import os
import re

import psycopg
from alembic import context
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from distsql.sql.catalogue import metadata
from distsql.sql.schema_events import recorder

# A migration that waits for a lock makes everybody behind it wait too: better to fail and be run again.
LOCK_TIMEOUT = "5s"
STATEMENT_TIMEOUT = "10min"

_PARTITION = re.compile(r"audit_events_(\d{4}_\d{2}|rest)")


def include_name(name: str | None, kind: str, parents: object) -> bool:
    """Partitions come and go by the month, they are not part of the metadata."""
    del parents
    return not (kind == "table" and name and _PARTITION.fullmatch(name))


def run(connection: Connection) -> None:
    """Runs the migrations on the connection, each in a transaction of its own."""
    connection.execute(text("select set_config('lock_timeout', :value, false)"), {"value": LOCK_TIMEOUT})
    connection.execute(text("select set_config('statement_timeout', :value, false)"), {"value": STATEMENT_TIMEOUT})
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=include_name,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
        on_version_apply=recorder(context.config.attributes.get("actor", "alembic")),
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    url = os.environ.get("DISTSQL_DATABASE_URL")
    if not url:
        raise SystemExit('Set DISTSQL_DATABASE_URL, for example to "$(distsql database-url --data DIR)"')
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    with engine.connect() as own:
        run(own)
