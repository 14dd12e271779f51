"""`distsql serve` is killed, at random moments and in the middle of every statement: nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from psycopg import sql

from tests.server.conftest import Start
from tests.server.processes import Serve, assert_sound, wait_until
from tests.server.pushes import (
    BROKEN,
    Load,
    assert_image,
    begin,
    content,
    digest_of,
    finish,
    image,
    push,
    push_blob,
    put_manifest,
)
from tests.server.wire import Wire


def kill_all(server: Serve) -> None:
    """Main process and workers at the same moment, as when a machine's memory is full."""
    workers = server.workers()
    for pid in (server.pid, *workers):
        os.kill(pid, signal.SIGKILL)
    server.process.wait()


def attempt(work: Callable[[], httpx.Response]) -> int | None:
    """The answer's status, None when the server died over it."""
    try:
        return work().status_code
    except BROKEN:
        return None


@contextmanager
def in_background(*works: Callable[[], httpx.Response]) -> Iterator[list[int | None]]:
    """Runs all at the same time; their statuses are there at the end, in no order."""
    statuses: list[int | None] = []
    threads = [threading.Thread(target=lambda work=work: statuses.append(attempt(work))) for work in works]
    for thread in threads:
        thread.start()
    yield statuses
    for thread in threads:
        thread.join()


@pytest.mark.slow
def test_killed_in_an_upload(start_serve: Start, catalogue: tuple[str, ...]) -> None:
    """The session stands where a PATCH was acknowledged last; going on from there completes it."""
    first = start_serve(catalogue)
    data = content("killed", 3_000_000)
    with first.client() as client:
        session = begin(client, "acme/web")
        assert client.patch(session, content=data[:1_000_000]).status_code == 202
    with Wire(first.port) as wire:
        wire.request("PATCH", session, [f"Content-Length: {len(data) - 1_000_000}"])
        wire.send(data[1_000_000:2_500_000])
        time.sleep(0.2)
        kill_all(first)
    again = start_serve(catalogue)
    with Wire(again.port) as wire:
        assert wire.ask("GET", session).offset == 1_000_000
        chunk_range = f"Content-Range: 1000000-{len(data) - 1}"
        answer = wire.ask("PUT", f"{session}?digest={digest_of(data)}", [chunk_range], data[1_000_000:])
        assert answer.status == 201
        assert wire.ask("GET", f"/v2/acme/web/blobs/{digest_of(data)}").body == data
    assert_sound(*catalogue, "--bytes")


@pytest.mark.slow
def test_killed_at_random_moments(start_serve: Start, catalogue: tuple[str, ...]) -> None:
    """Two servers under load, one of them killed again and again."""
    servers = [start_serve(catalogue), start_serve(catalogue)]
    with Load([server.url for server in servers], "acme/load", length=100_000) as load:
        for kill in range(3):
            load.wait_for(images=2)
            time.sleep(random.uniform(0, 0.1))
            victim = servers[kill % 2]
            kill_all(victim)
            servers[kill % 2] = start_serve(catalogue, port=victim.port)
        load.wait_for(images=5)
    assert not load.problems, load.problems
    assert set(load.statuses) <= {201, 202}
    with servers[0].client() as client:
        load.assert_kept(client)
        push(client, "acme/load/0", "again", image("acme/load/0/0", length=load.length))
    assert_sound(*catalogue, "--bytes")


# A finish and a manifest PUT meet these tables; of each pair one stops the one operation, one the other.
STOPS = [("uploads", "manifests"), ("blobs", "tags"), ("layers", "descriptors"), ("audit_events", "audit_events")]


def waiting(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """Connections that wait for a lock."""
    row = connection.execute(
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and cardinality(pg_blocking_pids(pid)) > 0"
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


def others(watch: psycopg.Connection[tuple[object, ...]], lock: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Whether a killed server's connections are there yet."""
    query = (
        "select exists (select from pg_stat_activity where datname = current_database() "
        "and backend_type = 'client backend' and pid not in (pg_backend_pid(), %s))"
    )
    return watch.execute(query, [lock.info.backend_pid]).fetchone() == (True,)


@pytest.mark.slow
def test_killed_in_the_middle_of_transactions(start_serve: Start, catalogue: tuple[str, ...]) -> None:
    """A finish and a manifest PUT are stopped at the tables that they write, and the server is killed there.

    What was under way is there wholly or not at all, and the client's retry succeeds.
    """
    url = catalogue[1]
    server = start_serve(catalogue)
    for table, other_table in STOPS:
        made, blob = image(f"statements/{table}"), content(f"statements/blob/{table}", 50_000)
        name = f"acme/{table.replace('_', '-')}"
        statement = sql.SQL("lock table {}, {} in access exclusive mode")
        with server.client() as client, server.client() as other:
            for each in made.blobs:
                push_blob(client, name, each)
            session = begin(client, name)
            # Watched on a connection of its own: a transaction sees the list of connections as it was at first.
            with psycopg.connect(url) as lock, psycopg.connect(url, autocommit=True) as watch:
                lock.execute(statement.format(sql.Identifier(table), sql.Identifier(other_table)))
                with in_background(
                    lambda: put_manifest(client, name, "latest", made),  # noqa: B023  # done within the loop
                    lambda: finish(other, session, blob, digest_of(blob)),  # noqa: B023
                ) as statuses:
                    wait_until(lambda: waiting(watch) == 2, what=f"a stop at {table} and {other_table}")
                    kill_all(server)
                lock.rollback()
                # PostgreSQL notices only now that the client is gone; what was sent with its commit is committed.
                wait_until(lambda: not others(watch, lock), what="the end of the server's connections")
        assert statuses == [None, None]
        server = start_serve(catalogue, port=server.port)
        with server.client() as client:
            tag, found = client.get(f"/v2/{name}/manifests/latest"), client.head(f"/v2/{name}/blobs/{digest_of(blob)}")
            assert {tag.status_code, found.status_code} <= {200, 404}
            if tag.status_code == 200:
                assert_image(client, name, "latest", made)
            assert put_manifest(client, name, "latest", made).status_code == 201
            retried = finish(client, session, blob, digest_of(blob)) if found.status_code == 404 else found
            assert retried.status_code in {200, 201}
            assert_image(client, name, "latest", made)
    assert_sound(*catalogue, "--bytes")
