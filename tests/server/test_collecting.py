"""Garbage collection inside running servers: by itself, and one server at a time."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import psycopg

from distsql.oci.digest import Digest
from tests.registry.pushing import CONFIG, image
from tests.server.conftest import Start
from tests.server.processes import wait_until

LAYER = b"a layer that goes"
AT_ONCE = {"DISTSQL_GC_INTERVAL": "200ms", "DISTSQL_GC_GRACE": "0s", "DISTSQL_RESTORE_PERIOD": "0s"}
_LOCK = 7138472190  # as in distsql/sql/garbage.py


def push_and_delete(url: str) -> None:
    """An image that is there, and then not any more."""
    manifest = image(LAYER)
    with httpx.Client(base_url=f"{url}/v2/acme/web", timeout=30) as client:
        while True:
            for content in (CONFIG, LAYER):
                answer = client.post("blobs/uploads/", params={"digest": str(Digest.of(content))}, content=content)
                assert answer.status_code == 201, answer.text
            headers = {"content-type": manifest.media_type}
            answer = client.put(f"manifests/{manifest.digest}", content=manifest.payload, headers=headers)
            if answer.status_code == 201:
                break
            assert answer.json()["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"  # collected on the way
        assert client.delete(f"manifests/{manifest.digest}").status_code == 202


def stored(place: Path) -> list[bytes]:
    found = []
    for path in (place / "bytes").rglob("*"):
        try:
            if path.is_file() and path.stat().st_size in {len(LAYER), len(CONFIG)}:
                found.append(path.read_bytes())
        except FileNotFoundError:  # it went just now
            continue
    return [content for content in found if content in {LAYER, CONFIG}]


def test_a_server_collects_by_itself(start_serve: Start, catalogue: tuple[str, ...], place: Path) -> None:
    server = start_serve(catalogue, env=AT_ONCE)
    push_and_delete(server.url)
    wait_until(lambda: not stored(place), what="collection")


def test_servers_collect_one_at_a_time(start_serve: Start, catalogue: tuple[str, ...], place: Path) -> None:
    """As long as one is at it the others leave it alone, and go on serving; then one of them does what is left."""
    servers = [start_serve(catalogue, env=AT_ONCE) for _ in range(2)]
    with psycopg.connect(catalogue[1]) as another:
        another.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        for server in servers:
            push_and_delete(server.url)
        time.sleep(1)
        assert sorted(set(stored(place))) == sorted([CONFIG, LAYER])
        another.rollback()
        wait_until(lambda: not stored(place), what="collection")
        [(times,)] = another.execute(
            "select count(*) from audit_events where action = 'garbage.layer' group by digest_text(digest) limit 1"
        ).fetchall()
    assert times == 1
