"""PostgreSQL comes and goes, the disk fills up, and two servers share everything."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from distsql.embedded import PrivatePostgres
from distsql.sql import schema
from tests.server.conftest import Start
from tests.server.processes import assert_sound, distsql
from tests.server.pushes import Load, assert_image, begin, content, digest_of, finish, image, push, push_blob
from tests.server.wire import Wire


@pytest.mark.slow
def test_postgresql_restarts_under_load(start_serve: Start, place: Path) -> None:
    """503 with Retry-After for as long as it is away, then full service by itself; nothing acknowledged is lost."""
    data = place / "own"
    with PrivatePostgres(data) as postgres:
        catalogue = ("--database-url", postgres.url(data), "--storage", (place / "bytes").as_uri())
        schema.migrate(postgres.url(data))
        server = start_serve(catalogue)
        with Load([server.url], "acme/load") as load:
            for _ in range(3):
                load.wait_for(images=5)
                postgres.stop()
                time.sleep(0.3)
                postgres.start()
            load.wait_for(images=5)
        assert not load.problems, load.problems
        assert set(load.statuses) <= {201, 202, 503}
        assert 503 in load.statuses
        assert not load.broken
        with server.client() as client:
            load.assert_kept(client)
        assert server.stop() == 0
        assert_sound(*catalogue, "--bytes")


def finish_at_once(one: httpx.Client, two: httpx.Client) -> None:
    """Both finish the same session: one 201 at least, never a 500, one blob."""
    for number in range(10):
        data = content(f"race/{number}", 100_000)
        session = begin(one, "acme/race")
        with ThreadPoolExecutor(2) as pool:
            answers = pool.map(finish, (one, two), (session,) * 2, (data,) * 2, (digest_of(data),) * 2)
            statuses = {answer.status_code for answer in answers}
        assert 201 in statuses
        assert statuses <= {201, 404, 409, 416}
        assert two.get(f"/v2/acme/race/blobs/{digest_of(data)}").content == data


@pytest.mark.slow
def test_two_servers_share_everything(start_serve: Start, catalogue: tuple[str, ...]) -> None:
    """An upload begun on one, continued on the other, ended on the first; tags of both are seen by both (zot #4337)."""
    first, second = start_serve(catalogue), start_serve(catalogue)
    data = content("two", 1_500_000)
    with first.client() as one, second.client() as two:
        session = begin(one, "acme/web")
        for number, start in enumerate(range(0, 1_500_000, 100_000)):
            client = (two, one)[number % 2]
            answer = client.patch(session, content=data[start : start + 100_000])
            assert (answer.status_code, answer.headers["range"]) == (202, f"0-{start + 99_999}")
        assert finish(one, session, b"", digest_of(data)).status_code == 201
        assert two.get(f"/v2/acme/web/blobs/{digest_of(data)}").content == data

        finish_at_once(one, two)
        with Load([first.url, second.url], "acme/load", clients=6) as load:
            load.wait_for(images=30)
        assert not load.problems, load.problems
        assert not load.broken
        tags = {name: {tag for each, tag, _ in load.images if each == name} for name, _, _ in load.images}
        assert sum(map(len, tags.values())) == len(load.images)
        for client in (one, two):
            load.assert_kept(client)
            for name, expected in tags.items():
                assert set(client.get(f"/v2/{name}/tags/list").json()["tags"]) == expected
            assert set(client.get("/v2/_catalog").json()["repositories"]) == {"acme/race", "acme/web", *tags}
    assert_sound(*catalogue, "--bytes")


class SmallDisk:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def resize(self, size: str, *, first: bool = False) -> None:
        options = f"size={size}" if first else f"remount,size={size}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder], check=True, capture_output=True)

    def fill(self) -> None:
        with (self.folder / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(b"\0" * 4096)

    def used(self) -> int:
        return shutil.disk_usage(self.folder).used


@pytest.fixture
def disk(place: Path) -> Iterator[SmallDisk]:
    """A file system of 24 MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root mounts a small disk")
    disk = SmallDisk(place / "disk")
    try:
        disk.resize("24m", first=True)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"mounting isn't permitted: {error.stderr}")
    yield disk
    subprocess.run(["umount", disk.folder], check=True)


@pytest.mark.slow
def test_a_full_disk(start_serve: Start, catalogue: tuple[str, ...], disk: SmallDisk) -> None:
    """507 in the specification's form; the room is given back, pulls and smaller pushes go on, the session too."""
    catalogue = (*catalogue[:2], "--storage", (disk.folder / "bytes").as_uri())
    server = start_serve(catalogue)
    kept, large = image("kept", length=4 * 1024**2), content("large", 30 * 1024**2)
    with server.client() as client:
        push(client, "acme/web", "latest", kept)
        session = begin(client, "acme/web")
        first = 2 * 1024**2
        assert client.patch(session, content=large[:first]).status_code == 202
        used = disk.used()
        for _ in range(2):
            with Wire(server.port) as wire:
                answer = wire.ask("PATCH", session, body=large[first:])
                assert (answer.status, answer.code) == (507, "UNAVAILABLE")
                assert int(answer.headers["retry-after"]) > 0
                assert wire.ask("GET", session).offset == first
            assert disk.used() <= used + 64 * 1024
        one = client.post("/v2/acme/web/blobs/uploads/", params={"digest": digest_of(large)}, content=large)
        assert one.status_code == 507
        assert disk.used() <= used + 64 * 1024
        for blob in kept.blobs:
            assert client.get(f"/v2/acme/web/blobs/{digest_of(blob)}").content == blob
        small = push_blob(client, "acme/web", content("small", 1024**2))
        assert client.head(f"/v2/acme/web/blobs/{small}").status_code == 200
        assert_sound(*catalogue)

        disk.resize("64m")
        rest = finish(client, session, large[first:], digest_of(large))
        assert rest.status_code == 201, rest.text
        assert client.get(f"/v2/acme/web/blobs/{digest_of(large)}").content == large

        # Not one byte is free: starts, pulls, deletes and garbage collection still work, and make room.
        disk.fill()
        assert client.post("/v2/acme/web/blobs/uploads/", content=b"").status_code in {202, 507}
        pushed = client.post(
            "/v2/acme/web/blobs/uploads/", params={"digest": digest_of(b"x" * 9999)}, content=b"x" * 9999
        )
        assert pushed.status_code == 507
    assert server.stop() == 0

    server = start_serve(catalogue, port=server.port)
    with server.client() as client:
        assert_image(client, "acme/web", "latest", kept)
        assert client.delete(f"/v2/acme/web/blobs/{digest_of(large)}").status_code == 202
        time.sleep(0.1)
        done = distsql("collect-garbage", "--grace", "10ms", *catalogue)
        assert done.returncode == 0, done.stderr
        push_blob(client, "acme/web", content("after", 1024**2))
    assert_sound(*catalogue, "--bytes")
