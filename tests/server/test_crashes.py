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
def test_killed_at_random_moments(start_serve: Start, begin_serve: Start, catalogue: tuple[str, ...]) -> None:
    """Two servers under load, one of them killed again and again."""
    dice = random.Random()
    servers = [start_serve(catalogue), start_serve(catalogue)]
    with Load([server.url for server in servers], "acme/load") as load:
        for kill in range(8):
            time.sleep(dice.uniform(0.05, 0.6))
            victim = servers[kill % 2]
            kill_all(victim)
            servers[kill % 2] = begin_serve(catalogue, port=victim.port)
            servers[kill % 2].wait_ready()
        time.sleep(0.5)
    assert not load.problems, load.problems
    assert set(load.statuses) <= {201, 202}
    assert len(load.images) > 20
    for server in servers:
        with server.client() as client:
            load.assert_kept(client)
            push(client, "acme/load/0", "again", image("acme/load/0/0", length=load.length))
    assert_sound(*catalogue, "--bytes")
    print(f"{len(load.images)} images, {len(load.blobs)} blobs, {load.statuses}")


def tables(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') "
            "and not relispartition and relname <> 'alembic_version' order by relname"
        )
        return [str(name) for (name,) in rows]


def waiting(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """Statements that wait for a lock of ours."""
    row = connection.execute(
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and pg_backend_pid() = any (pg_blocking_pids(pid))"
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


@pytest.mark.slow
def test_killed_in_every_statement(start_serve: Start, begin_serve: Start, catalogue: tuple[str, ...]) -> None:
    """A finish and a manifest PUT are stopped at each table that they touch, and the server is killed there.

    What was under way is there wholly or not at all, and the client's retry succeeds.
    """
    url = catalogue[1]
    server = start_serve(catalogue)
    stopped: dict[str, int] = {}
    for table in tables(url):
        made, blob = image(f"statements/{table}"), content(f"statements/blob/{table}", 50_000)
        name = f"acme/{table.replace('_', '-')}"
        with server.client() as client, server.client() as other:
            for each in made.blobs:
                push_blob(client, name, each)
            session = begin(client, name)
            with psycopg.connect(url) as lock:
                lock.execute(sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier(table)))
                with in_background(
                    lambda: put_manifest(client, name, "latest", made),  # noqa: B023  # done within the loop
                    lambda: finish(other, session, blob, digest_of(blob)),  # noqa: B023
                ) as statuses:
                    wait_until(lambda: waiting(lock) + len(statuses) == 2, what=f"a stop at {table}")  # noqa: B023
                    stopped[table] = waiting(lock)
                    if stopped[table]:
                        kill_all(server)
                lock.rollback()
        if stopped[table]:
            server = begin_serve(catalogue, port=server.port).wait_ready()
        with server.client() as client:
            tag, found = client.get(f"/v2/{name}/manifests/latest"), client.head(f"/v2/{name}/blobs/{digest_of(blob)}")
            assert (tag.status_code, found.status_code) == ((404, 404) if None in statuses else (200, 200)) or (
                statuses.count(None) == 1
            )
            if tag.status_code == 200:
                assert_image(client, name, "latest", made)
            assert put_manifest(client, name, "latest", made).status_code == 201
            retried = finish(client, session, blob, digest_of(blob)) if found.status_code == 404 else found
            assert retried.status_code in {200, 201}
            assert_image(client, name, "latest", made)
    print(stopped)
    assert sum(count > 0 for count in stopped.values()) >= 6, stopped
    assert_sound(*catalogue, "--bytes")
