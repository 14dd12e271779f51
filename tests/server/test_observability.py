"""What whoever runs it sees: health, readiness, logs, settings from everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from distsql.embedded import PrivatePostgres
from distsql.sql import schema
from tests.server.conftest import Start
from tests.server.processes import Serve, wait_until
from tests.server.pushes import image, push
from tests.server.wire import Wire


@pytest.fixture
def own_postgres(place: Path) -> Iterator[PrivatePostgres]:
    """A PostgreSQL that may be stopped, with a migrated database."""
    with PrivatePostgres(place / "own") as postgres:
        schema.migrate(postgres.url(place / "own"))
        yield postgres


def test_health_and_readiness(start_serve: Start, own_postgres: PrivatePostgres, place: Path) -> None:
    """Alive whatever happens; ready only while PostgreSQL answers, and told when to ask again."""
    server = start_serve(("--database-url", own_postgres.url(place / "own"), "--storage", (place / "b").as_uri()))
    with server.client() as client:
        assert client.get("/healthz").json() == {"status": "alive"}
        assert client.get("/readyz").json() == {"status": "ready"}
        own_postgres.stop()
        assert client.get("/healthz").status_code == 200
        for path in ("/readyz", "/v2/acme/web/tags/list", "/v2/_catalog"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["errors"][0]["code"] == "UNAVAILABLE"
        own_postgres.start()
        assert client.get("/readyz").status_code == 200
    assert server.stop() == 0


def lines(server: Serve, path: str) -> list[dict[str, object]]:
    return [line for line in map(json.loads, server.log.splitlines()) if line.get("path") == path]


def test_the_access_log(shared_serve: Serve) -> None:
    """One JSON object a line, without the query, which may hold secrets, and safe against forged lines."""
    with Wire(shared_serve.port) as wire:
        wire.ask("GET", "/v2/acme/logged/tags/list?n=1&token=hunter2", ["User-Agent: tester/1", "X-Request-ID: abc-1"])
        wire.ask("GET", "/v2/acme/forged%0A%7B%22status%22:200%7D/tags/list", ["User-Agent: \xff\tx"])
    wait_until(lambda: lines(shared_serve, "/v2/acme/logged/tags/list"), what="the log line")
    (line,) = lines(shared_serve, "/v2/acme/logged/tags/list")
    assert line["method"] == "GET"
    assert line["status"] == 404
    assert line["client"] == "127.0.0.1"
    assert line["user_agent"] == "tester/1"
    assert line["request_id"] == "abc-1"
    assert isinstance(line["ms"], float)
    assert "hunter2" not in shared_serve.log
    wait_until(lambda: "forged" in shared_serve.log)
    assert all(isinstance(json.loads(line), dict) for line in shared_serve.log.splitlines())


@pytest.mark.slow
def test_settings_from_everywhere(begin_serve: Start, catalogue: tuple[str, ...], place: Path) -> None:
    """Flags win over the environment, which wins over the file; each may hold every setting."""
    _, url, _, storage = catalogue
    (place / "distsql.toml").write_text(
        f'database-url = "{url}"\nworkers = 2\nmanifest-limit = "1kB"\naccess_log = false\nstorage = "ftp://wrong"\n'
    )
    env = {"DISTSQL_CONFIG": str(place / "distsql.toml"), "DISTSQL_WORKERS": "1", "DISTSQL_STORAGE": "ftp://wrong"}
    server = begin_serve(("--storage", storage), env=env).wait_ready()
    assert len(server.workers()) == 1
    with server.client() as client:
        answer = client.put("/v2/acme/web/manifests/latest", content=b" " * 1001)
        assert answer.status_code == 413
        assert "1000 bytes" in answer.text
    assert server.stop() == 0
    assert server.log == ""


def count(text: str, start: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(start))


def test_metrics_pulls_and_request_ids_of_all_workers(start_serve: Start, catalogue: tuple[str, ...]) -> None:
    """Whichever worker is asked tells of all; a server writes its pulls when it stops; log and audit agree."""
    server = start_serve(catalogue, "--workers", 2, env={"DISTSQL_PULL_FLUSH_INTERVAL": "1h"})
    made = image("observed")
    with server.client(headers={"x-request-id": "push-1"}) as client:
        push(client, "acme/web", "latest", made)
    for _ in range(10):  # a connection each: some go to the other worker
        with server.client() as client:
            assert client.get("/v2/acme/web/manifests/latest").status_code == 200

    def pulled() -> float:
        with server.client() as client:
            return count(client.get("/metrics").text, 'distsql_requests_total{code="200",method="GET",route="get_manif')

    wait_until(lambda: pulled() == 10, what="all workers' counts")
    with psycopg.connect(catalogue[1]) as sql:
        assert sql.execute("select count(*) from daily_pulls").fetchall() == [(0,)]
        assert server.stop() == 0
        assert sql.execute("select sum(pulls)::int from daily_pulls").fetchall() == [(10,)]
        assert sql.execute("select distinct request_id from audit_events where tenant_id > 0").fetchall() == [
            ("push-1",)
        ]
    written = lines(server, "/v2/acme/web/manifests/latest")
    assert [line["request_id"] for line in written if line["method"] == "PUT"] == ["push-1"]


def test_a_killed_server_has_lost_the_last_interval_of_pulls_at_most(
    start_serve: Start, catalogue: tuple[str, ...]
) -> None:
    server = start_serve(catalogue, env={"DISTSQL_PULL_FLUSH_INTERVAL": "100ms"})
    with server.client() as client, psycopg.connect(catalogue[1], autocommit=True) as sql:
        push(client, "acme/web", "latest", image("killed"))
        client.get("/v2/acme/web/manifests/latest")
        wait_until(lambda: sql.execute("select 1 from daily_pulls where pulls = 1").fetchall(), what="the first pull")
        client.get("/v2/acme/web/manifests/latest")
        server.kill()
        [(kept,)] = sql.execute("select pulls from daily_pulls").fetchall()
        assert kept in {1, 2}
