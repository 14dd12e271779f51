"""Events through processes that are killed: what was answered 201 is told, at least once, and nothing else."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import psycopg
import pytest

from tests.server.conftest import Start
from tests.server.processes import distsql, wait_until
from tests.server.pushes import image, push


class _Receiver(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tags: list[str] = []

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: _Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.tags.append(body["subject"].rpartition(":")[2])
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def receiver() -> Iterator[_Receiver]:
    with _Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_killed_servers(start_serve: Start, catalogue: tuple[str, ...], receiver: _Receiver) -> None:
    """Killed right behind an answer, and in the middle of a push: the next server tells what was committed."""
    env = {"DISTSQL_WEBHOOK_ALLOW": "localhost", "DISTSQL_WEBHOOK_INTERVAL": "200ms"}
    distsql("tenant", "create", "acme", *catalogue)
    distsql("webhook", "add", "acme", receiver.url, "--events", "push", *catalogue)
    for round_ in range(3):
        server = start_serve(catalogue, env=env)
        with server.client() as client:
            push(client, "acme/web", f"v{round_}", image(round_))
            cut = threading.Thread(target=_push_quietly, args=(client, round_))
            cut.start()
            server.kill()
            cut.join()
    with psycopg.connect(catalogue[1]) as sql:
        committed = [
            tag
            for (tag,) in sql.execute(
                "select reference from audit_events where action = 'manifest.put' order by at, id"
            ).fetchall()
        ]
        assert {"v0", "v1", "v2"} <= set(committed)
        sql.execute("update webhook_deliveries set next_at = now()")  # what the killed ones had taken
    server = start_serve(catalogue, env=env)
    wait_until(lambda: set(receiver.tags) >= set(committed), what="the events")
    assert server.stop() == 0
    assert set(receiver.tags) == set(committed)
    assert list(dict.fromkeys(receiver.tags)) == committed


def _push_quietly(client: httpx.Client, round_: int) -> None:
    with contextlib.suppress(httpx.HTTPError, AssertionError):
        push(client, "acme/web", f"cut{round_}", image(f"cut {round_}"))
