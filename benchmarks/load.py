"""How load is made: `wrk` for GET, `ab` for HEAD (wrk hangs on it), our own clients for everything that writes.

Whatever makes it, every answer's status is checked, and a run with one wrong answer fails.
"""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from benchmarks.clients import LoadFailed, Script, run_scripts
from benchmarks.content import ACCEPT
from benchmarks.servers import Server

WRK_SCRIPT: Final = Path(__file__).with_name("wrk.lua")
# A slow answer is slow, not an error: 16 large blobs share one loopback.
TIMEOUT: Final = 60
TOO_MANY: Final = 100_000
"""Requests in a second that `ab` won't reach; it wants a number beside the time."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how wide one round is."""

    seconds: float
    connections: int


@dataclass(frozen=True, slots=True)
class Load:
    """What was done in a round."""

    requests: int
    body_bytes: int
    """Of the content that was sent or received, where that is what counts."""
    seconds: float


class Tally:
    """Counts what scripts did."""

    def __init__(self) -> None:
        self.requests = 0
        self.body_bytes = 0

    def add(self, body_bytes: int = 0) -> None:
        self.requests += 1
        self.body_bytes += body_bytes


def ask(server: Server, method: str, path: str, *, accept: str = ACCEPT) -> bytes:
    """One request with a patient client: the body of an answer that has to be 200."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    try:
        connection.request(method, path, headers={"Accept": accept})
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise LoadFailed(f"{server.name}: {method} {path}: {response.status} {body[:500].decode(errors='replace')}")
    return body


def get(server: Server, path: str, pace: Pace) -> Load:
    command = [
        *("wrk", "--threads", "1", "--connections", str(pace.connections), "--timeout", f"{TIMEOUT}s"),
        *(
            "--duration",
            f"{math.ceil(pace.seconds) + 5}s",
            "--script",
            str(WRK_SCRIPT),
            "--header",
            f"Accept: {ACCEPT}",
        ),
        f"http://127.0.0.1:{server.port}{path}",
    ]
    done = json.loads(_run(command, stop_after=pace.seconds).splitlines()[-1])
    errors = {name: done[name] for name in ("connect", "read", "write", "status", "timeout") if done[name]}
    if errors or not done["bytes"]:
        raise LoadFailed(f"{server.name}: GET {path}: {done['requests']} requests, errors {errors}")
    return Load(done["requests"], done["bytes"], done["microseconds"] / 1e6)


def head(server: Server, path: str, pace: Pace) -> Load:
    seconds = math.ceil(pace.seconds)  # ab knows whole ones only
    command = [
        *("ab", "-q", "-k", "-i", "-r", "-s", str(TIMEOUT), "-c", str(pace.connections)),
        *("-t", str(seconds), "-n", str(TOO_MANY * seconds), "-H", f"Accept: {ACCEPT}"),
        f"http://127.0.0.1:{server.port}{path}",
    ]
    output = _run(command)
    requests, failed = _number("Complete requests", output), _number("Failed requests", output)
    errors = failed + _number("Non-2xx responses", output) + _number("Write errors", output)
    if errors or not requests:
        raise LoadFailed(f"{server.name}: HEAD {path}: {errors:.0f} of {requests:.0f} requests failed\n{output}")
    if _number("Keep-Alive requests", output) < requests * 0.9:
        raise LoadFailed(f"{server.name}: HEAD {path}: connections weren't kept, that isn't what is measured here")
    return Load(int(requests), 0, _number("Time taken for tests", output))


def run_clients(server: Server, connections: int, make_script: Callable[[Tally], Script]) -> Load:
    """Our own clients, each with a script, until all have ended."""
    tally = Tally()
    began = time.perf_counter()
    try:
        run_scripts(server.port, [make_script(tally) for _ in range(connections)])
    except LoadFailed as error:
        raise LoadFailed(f"{server.name}: {error}") from error
    return Load(tally.requests, tally.body_bytes, time.perf_counter() - began)


def ticks(seconds: float) -> Iterator[None]:
    """Something for each turn of a loop, until the time is over; at least one."""
    end = time.perf_counter() + seconds
    yield
    while time.perf_counter() < end:
        yield


def _run(command: list[str], *, stop_after: float | None = None) -> str:
    """A program's output. Interrupted, wrk ends its run early and reports: so it runs for fractions of a second too."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            output, _ = process.communicate(timeout=stop_after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate()
    if process.returncode:
        raise LoadFailed(f"{' '.join(command)}: exit status {process.returncode}\n{output}")
    return output


def _number(label: str, output: str) -> float:
    """A line of ab's report; it leaves out what is zero."""
    found = re.search(rf"^{label}:\s+([\d.]+)", output, re.MULTILINE)
    return float(found[1]) if found else 0.0
