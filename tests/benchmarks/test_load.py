"""A benchmark of errors measures nothing: whatever makes the load, one wrong answer among many fails the run."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import ClassVar, TypeAlias, cast

import pytest

from benchmarks.clients import LoadFailed, Script, expect, request
from benchmarks.load import Load, Pace, Tally, get, head, run_clients, ticks
from benchmarks.servers import DockerRegistry, Server

MakeLoad: TypeAlias = Callable[[Server, str, Pace], Load]
PACE = Pace(seconds=0.3, connections=4)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    numbers: ClassVar[count[int]]
    fails_at: ClassVar[int]

    def do_GET(self) -> None:
        status = 500 if next(self.numbers) == self.fails_at else 200
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.send_header("Connection", "keep-alive")  # ab speaks HTTP/1.0, where it has to be said
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"ok")

    do_HEAD = do_GET  # noqa: N815 - named by http.server

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - named by http.server
        pass


class Listener(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Load generators break connections when their time is over."""


@pytest.fixture
def handler() -> type[Handler]:
    class Counting(Handler):
        numbers = count()
        fails_at = -1

    return Counting


@pytest.fixture
def server(handler: type[Handler], tmp_path: Path) -> Iterator[Server]:
    with Listener(("127.0.0.1", 0), handler) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        target = DockerRegistry("a server", tmp_path)
        target.port = listener.server_address[1]
        yield target
        listener.shutdown()
        thread.join()


def clients(server: Server, path: str, pace: Pace) -> Load:
    def script(tally: Tally) -> Script:
        for _ in ticks(pace.seconds):
            expect((yield request("GET", path)), 200, "GET")
            tally.add()

    return run_clients(server, pace.connections, script)


@pytest.fixture(params=[("wrk", get), ("ab", head), (None, clients)], ids=["wrk", "ab", "our own clients"])
def make_load(request: pytest.FixtureRequest) -> MakeLoad:
    program, function = request.param
    if program and shutil.which(program) is None:
        pytest.skip(f"{program} is missing; `./run.sh clients` gets it")
    return cast("MakeLoad", function)


@pytest.mark.slow
def test_all_is_well(make_load: MakeLoad, server: Server) -> None:
    load = make_load(server, "/", PACE)
    assert load.requests > 10
    assert load.seconds > 0
    assert 0 < load.latencies.p50 <= load.latencies.p99


@pytest.mark.slow
def test_one_wrong_answer_fails_the_run(make_load: MakeLoad, server: Server, handler: type[Handler]) -> None:
    handler.fails_at = 10
    with pytest.raises(LoadFailed):
        make_load(server, "/", PACE)
