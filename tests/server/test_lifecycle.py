"""From the first start to the last stop of one `distsql serve`, and after it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

from distsql.embedded import find_binaries
from distsql.embedded.survivors import living_servers
from tests.server.conftest import Start
from tests.server.processes import Serve, assert_sound, distsql, is_paused, wait_until
from tests.server.pushes import assert_image, begin, content, digest_of, image, push, push_blob
from tests.server.wire import Wire

MADE = image("lifecycle")


def errors(server: Serve) -> list[str]:
    """Complaints in the log.

    Not that a worker was killed: the web server waits a millisecond for the rest of a process that has ended, which on
    a busy machine is too short. One that really goes on is killed after DISTSQL_STOP_TIMEOUT, long after tests gave up.
    """
    lines = [json.loads(line) for line in server.log.splitlines()]
    return [
        line["message"]
        for line in lines
        if line.get("level") in {"warning", "error"} and "refused to gracefully stop" not in line["message"]
    ]


@pytest.mark.slow
def test_a_private_postgresql_and_its_serve(start_serve: Start, begin_serve: Start, place: Path) -> None:
    """One line says that it is ready; the data folder is its own; its PostgreSQL ends with it; it starts again.

    Also when it was paused while it was told to end: then any of its threads may get the signal.
    """
    data = place / "data"
    catalogue = ("--data", str(data))
    first = start_serve(catalogue)
    with first.client() as client:
        push(client, "acme/web", "latest", MADE)

    second, third = begin_serve(catalogue), begin_serve(("--data", str(place / "other")), port=first.port)
    assert second.wait() == 1
    assert f"in use by process {first.pid}" in second.log
    assert "--data" in second.log
    assert third.wait() == 2
    assert "can't be listened on" in third.log
    assert "--port" in third.log

    url = distsql("database-url", *catalogue).stdout.strip()
    psql = find_binaries().folder / "psql"
    if psql.exists():
        answer = subprocess.run([psql, url, "-Atc", "select count(*) from tags"], capture_output=True, check=True)
        assert answer.stdout == b"1\n"
    with psycopg.connect(url) as connection:
        assert connection.execute("select count(*) from tags").fetchone() == (1,)

    first.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: is_paused(first.pid), what="its pause")
    first.process.send_signal(signal.SIGTERM)
    first.process.send_signal(signal.SIGCONT)
    assert first.wait(20) == 0
    first.wait_workers_gone(seconds=1)
    assert not living_servers(data / "postgres" / "cluster")
    assert not errors(first)
    assert not (data / "postgres").is_symlink(), "the cluster is in the data folder, as its user may enter that"

    again = start_serve(catalogue, port=first.port)
    with again.client() as client:
        assert_image(client, "acme/web", "latest", MADE)
    # As Ctrl-C in a terminal does: every process of the group gets the signal, and it is no failure.
    os.killpg(again.pid, signal.SIGINT)
    assert again.wait() == 0
    assert not errors(again)
    assert_sound(*catalogue)


@pytest.mark.slow
def test_the_main_process_is_killed(start_serve: Start, place: Path) -> None:
    """Its workers and its PostgreSQL end by themselves; the next serve on the same folder and port has everything."""
    data = place / "data"
    catalogue = ("--data", str(data))
    temporary = place / "tmp"
    temporary.mkdir()
    first = start_serve(catalogue, "--workers", 2, env={"TMPDIR": str(temporary)})
    assert list(temporary.glob("distsql-workers-*"))
    with first.client() as client:
        push(client, "acme/web", "latest", MADE)
        session = begin(client, "acme/web")
        assert client.patch(session, content=b"half").status_code == 202
    first.kill()
    again = start_serve(catalogue, port=first.port)  # at once: the workers may still be there
    first.wait_workers_gone(seconds=3)
    assert not list(temporary.glob("distsql-workers-*")), "what the main process had made"
    with again.client() as client:
        assert_image(client, "acme/web", "latest", MADE)
        assert client.get(session).headers["range"] == "0-3"
        assert client.put(session, params={"digest": digest_of(b"half and half")}, content=b" and half").is_success
    again.kill()
    again.wait_workers_gone(seconds=10)
    wait_until(lambda: not living_servers(data / "postgres" / "cluster"), seconds=10)
    assert_sound(*catalogue)


def test_the_main_process_is_killed_while_it_starts(begin_serve: Start, catalogue: tuple[str, ...]) -> None:
    """A worker that finds itself without a parent ends too: it would hold the port for ever."""
    server = begin_serve(catalogue, env={"DISTSQL_STOP_TIMEOUT": "5s"})  # what a worker that hears nothing is given
    wait_until(server.workers, what="a worker")
    server.kill()
    server.wait_workers_gone(seconds=20)


@pytest.mark.slow
def test_what_runs_is_finished(start_serve: Start, catalogue: tuple[str, ...]) -> None:
    """A slow upload and a slow download get their whole answers after SIGTERM; idle connections keep nobody waiting."""
    server = start_serve(catalogue)
    large = content("download", 16 * 1024**2)
    with server.client() as client:
        session = begin(client, "acme/slow")
        push_blob(client, "acme/slow", large)
    with (
        Wire(server.port) as idle,
        Wire(server.port),
        Wire(server.port) as upload,
        Wire(server.port, buffer=4096) as download,
    ):
        assert idle.ask("GET", "/v2/").status == 200
        download.request("GET", f"/v2/acme/slow/blobs/{digest_of(large)}")
        length = int(download.head()[1]["content-length"])
        upload.request("PUT", f"{session}?digest={digest_of(b'0123456789')}", ["Content-Length: 10"])
        upload.send(b"01234")
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        upload.trickle([b"5", b"6", b"7", b"8", b"9"], pause=0.2)
        assert upload.answer().status == 201
        assert server.process.poll() is None
        assert download.take(length) == large
        assert server.wait(10) == 0
    with pytest.raises(ConnectionRefusedError):
        Wire(server.port)
    assert not errors(server)


@pytest.mark.slow
def test_what_does_not_end_is_cut_off(start_serve: Start, catalogue: tuple[str, ...]) -> None:
    """After DISTSQL_STOP_TIMEOUT a client that hangs is left alone, and the stop is still a success."""
    server = start_serve(catalogue, env={"DISTSQL_STOP_TIMEOUT": "1s"})
    with server.client() as client:
        session = begin(client, "acme/hangs")
    with Wire(server.port) as hanging, Wire(server.port) as idle:
        assert idle.ask("GET", "/v2/").status == 200
        hanging.request("PATCH", session, ["Content-Length: 10"])
        hanging.send(b"01234")
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10
    assert_sound(*catalogue)


def test_a_stop_while_it_starts(begin_serve: Start, place: Path) -> None:
    """SIGTERM at any moment of the first start: status 0, nothing runs on, and the next start is whole."""
    data = place / "data"
    server = begin_serve(("--data", str(data)))
    wait_until((data / "postgres").exists, what="the start")
    time.sleep(0.3)
    assert server.stop() == 0
    server.wait_workers_gone(seconds=1)
    assert "Traceback" not in server.log
    assert not list(data.rglob("postmaster.pid"))


def serving(server: Serve) -> set[str]:
    """The workers that answered something."""
    return {json.loads(line)["request_id"].partition("-")[0] for line in server.log.splitlines()}


def failures(port: int, *, seconds: float) -> int:
    """How many of the requests of this time met a broken connection."""
    failed = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with Wire(port) as wire:
                assert wire.ask("GET", "/v2/").status == 200
        except OSError:
            failed += 1
    return failed


@pytest.mark.slow
def test_workers_share_everything(start_serve: Start, catalogue: tuple[str, ...]) -> None:
    """One session through two workers, whichever the kernel gives a connection to; a killed one is replaced."""
    server = start_serve(catalogue, "--workers", 2)
    wait_until(
        lambda: failures(server.port, seconds=0.1) == 0 and len(serving(server)) == 2, what="both workers' start"
    )
    data = content("workers", 3_000_000)
    with server.client() as client:
        session = begin(client, "acme/web")
        offset = 0
        for end in range(150_000, len(data) + 1, 150_000):
            with Wire(server.port) as fresh:  # a new connection may be any worker's
                chunk_range = f"Content-Range: {offset}-{end - 1}"
                answer = fresh.ask("PATCH", session, [chunk_range], data[offset:end])
                assert (answer.status, answer.offset) == (202, end)
            offset = end
        with Wire(server.port) as fresh:
            assert fresh.ask("PUT", f"{session}?digest={digest_of(data)}", body=b"").status == 201
        assert client.get(f"/v2/acme/web/blobs/{digest_of(data)}").content == data

    old = server.workers()
    os.kill(old[0], signal.SIGKILL)
    assert failures(server.port, seconds=1) < 10, "the other one goes on"
    wait_until(lambda: len(server.workers()) == 2 and old[0] not in server.workers(), what="the respawn")
    with server.client() as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        push(client, "acme/web", "latest", MADE)
    assert server.stop() == 0
