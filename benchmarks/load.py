"""How load is made: `wrk` for GET, `ab` for HEAD (wrk hangs on it) and for GET over new connections, which wrk keeps;
our own clients for everything that writes.

Whatever makes it, every answer's status is checked, and a run with one wrong answer fails.
"""

from __future__ import annotations

import csv
import json
import math
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Final, NamedTuple

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


class Latencies(NamedTuple):
    """Seconds until an answer was there: half of them took no longer, and 99 of 100."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Load:
    """What was done in a round."""

    requests: int
    body_bytes: int
    """Of the content that was sent or received, where that is what counts."""
    seconds: float
    latencies: Latencies


class Tally:
    """Counts what one client did, and how long each of it took."""

    def __init__(self) -> None:
        self.body_bytes = 0
        self.latencies: list[float] = []
        self._since = time.perf_counter()

    def add(self, body_bytes: int = 0) -> None:
        """One more is done, which began when the one before ended."""
        now = time.perf_counter()
        self.latencies.append(now - self._since)
        self.body_bytes += body_bytes
        self._since = now


def ask(server: Server, method: str, path: str, headers: str = "", *, status: int = 200) -> bytes:
    """One request with a patient client: the body of an answer that has to have this status."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    try:
        connection.request(method, path, headers=dict(line.split(": ", 1) for line in _lines(server, headers)))
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != status:
        raise LoadFailed(f"{server.name}: {method} {path}: {response.status} {body[:500].decode(errors='replace')}")
    return body


def get(
    server: Server,
    path: str,
    pace: Pace,
    headers: str = "",
    *,
    threads: int = 1,
    script: Path = WRK_SCRIPT,
    given: Sequence[str] = (),
) -> Load:
    """By wrk; another script than ours reports as that does, and is `given` arguments."""
    command = [
        *("wrk", "--threads", str(threads), "--connections", str(pace.connections), "--timeout", f"{TIMEOUT}s"),
        *("--duration", f"{math.ceil(pace.seconds) + 5}s", "--script", str(script)),
        *(part for line in _lines(server, headers) for part in ("--header", line)),
        f"http://127.0.0.1:{server.port}{path}",
        *(("--", *given) if given else ()),
    ]
    done = json.loads(_run(command, stop_after=pace.seconds).splitlines()[-1])
    errors = {name: done[name] for name in ("connect", "read", "write", "status", "timeout") if done[name]}
    if errors:
        raise LoadFailed(f"{server.name}: GET {path}: {done['requests']} requests, errors {errors}")
    if not done["requests"]:  # the time was too short for one, so there is nothing to tell of
        if pace.seconds > TIMEOUT:
            raise LoadFailed(f"{server.name}: GET {path}: no answer within {pace.seconds:.0f} s")
        longer = Pace(2 * pace.seconds, pace.connections)
        return get(server, path, longer, headers, threads=threads, script=script, given=given)
    latencies = Latencies(done["p50"] / 1e6, done["p99"] / 1e6)
    return Load(done["requests"], done["bytes"], done["microseconds"] / 1e6, latencies)


def head(server: Server, path: str, pace: Pace, headers: str = "") -> Load:
    return _ask_by_ab(server, path, pace, headers, "-k", "-i")


def get_anew(server: Server, path: str, pace: Pace, headers: str = "") -> Load:
    """Each over a connection of its own: so do clients that are made of containers/image (skopeo, podman)."""
    return _ask_by_ab(server, path, pace, headers)


def _ask_by_ab(server: Server, path: str, pace: Pace, headers: str, *options: str) -> Load:
    with tempfile.NamedTemporaryFile("r", suffix=".csv") as percentiles:
        command = [
            *("ab", "-q", *options, "-r", "-s", str(TIMEOUT), "-c", str(pace.connections), "-e", percentiles.name),
            *_duration(pace),
            *(part for line in _lines(server, headers) for part in ("-H", line)),
            f"http://127.0.0.1:{server.port}{path}",
        ]
        output = _run(command)
        took = {row[0]: float(row[1]) / 1e3 for row in csv.reader(percentiles) if row[0].isdigit()}
    requests, failed = _number("Complete requests", output), _number("Failed requests", output)
    errors = failed + _number("Non-2xx responses", output) + _number("Write errors", output)
    if errors or not requests:
        raise LoadFailed(f"{server.name}: {path}: {errors:.0f} of {requests:.0f} requests failed\n{output}")
    if "-k" in options and _number("Keep-Alive requests", output) < requests * 0.9:
        raise LoadFailed(f"{server.name}: {path}: connections weren't kept, that isn't what is measured here")
    return Load(int(requests), 0, _number("Time taken for tests", output), Latencies(took["50"], took["99"]))


def run_clients(server: Server, connections: int, make_script: Callable[[Tally], Script]) -> Load:
    """Our own clients, each with a script, until all have ended."""
    headers = server.headers
    tallies = [Tally() for _ in range(connections)]
    began = time.perf_counter()
    try:
        run_scripts(server.port, map(make_script, tallies), headers=headers)
    except LoadFailed as error:
        raise LoadFailed(f"{server.name}: {error}") from error
    seconds = time.perf_counter() - began
    return add_up((each for tally in tallies for each in tally.latencies), seconds, sum(t.body_bytes for t in tallies))


def add_up(latencies: Iterable[float], seconds: float, body_bytes: int = 0) -> Load:
    """What was done in these seconds, each of which took so long."""
    took = sorted(latencies)
    if not took:
        raise LoadFailed("nothing was done")
    return Load(len(took), body_bytes, seconds, Latencies(*(took[int(part * (len(took) - 1))] for part in (0.5, 0.99))))


def ticks(seconds: float) -> Iterator[None]:
    """Something for each turn of a loop, until the time is over; at least one."""
    end = time.perf_counter() + seconds
    yield
    while time.perf_counter() < end:
        yield


def _lines(server: Server, headers: str) -> list[str]:
    """The headers of a request, one a line."""
    return [f"Accept: {ACCEPT}", *server.headers.splitlines(), *headers.splitlines()]


def _duration(pace: Pace) -> list[str]:
    """For `ab`, which knows whole seconds only: for less than one, a number of requests."""
    if pace.seconds < 1:
        return ["-n", str(max(2 * pace.connections, int(1000 * pace.seconds)))]
    seconds = math.ceil(pace.seconds)
    return ["-t", str(seconds), "-n", str(TOO_MANY * seconds)]


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
