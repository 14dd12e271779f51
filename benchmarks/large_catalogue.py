"""A large catalogue for reports, in a database of its own.

Half of everything is of one tenant, acme, in 500 manifests for each repository; it asks about acme/web.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from benchmarks.population import Shape, fill
from distsql.sql import schema

# Of a server that may lose everything.
_CARELESS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}


def make_shape(*, manifests: int, events: int) -> Shape:
    """Of 100 tenants."""
    repositories = max(2, manifests // 500)
    return Shape(
        tenants=100, repositories=repositories, manifests=manifests, events=events, acme=max(1, repositories // 2)
    )


@contextmanager
def filled_catalogue(server_url: str, *, manifests: int, events: int, keep: bool = False) -> Iterator[str]:
    """The URL of a database that is dropped at the end, unless it is to be kept."""
    name = f"bench_reports_{secrets.token_hex(4)}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    url = make_conninfo(server_url, dbname=name)
    try:
        schema.migrate(url)
        fill(url, make_shape(manifests=manifests, events=events), lambda line: print(line, file=sys.stderr))
        yield url
    finally:
        if not keep:
            with psycopg.connect(server_url, autocommit=True) as server:
                server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def be_careless(server_url: str) -> None:
    """Tells a server of the benchmark's own that it may lose everything: it is filled twice as fast."""
    with psycopg.connect(server_url, autocommit=True) as server:
        for name, value in _CARELESS.items():
            server.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        server.execute("select pg_reload_conf()")
