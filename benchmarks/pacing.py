"""Load at a rate that the server doesn't decide: `wrk` with pauses between the requests of each connection."""

from __future__ import annotations

import json
import math
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.clients import LoadFailed
from benchmarks.content import ACCEPT

SCRIPT: Final = Path(__file__).with_name("paced.lua")
_LEAST_S: Final = 0.2
_MOST_S: Final = 60


class Paced(NamedTuple):
    """What was done, by a client that takes next to no CPU."""

    requests: int
    seconds: float


def run_paced(url: str, *, seconds: float, connections: int, pause_ms: int, put: Sequence[str] = ()) -> Paced:
    """GETs, or PUTs (``put`` is what paced.lua wants for them); a wrong answer is `LoadFailed`."""
    command = [
        *("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{math.ceil(seconds) + 5}s"),
        *("--script", SCRIPT.name, "--header", f"Accept: {ACCEPT}", url, "--", str(pause_ms), *put),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=SCRIPT.parent
    ) as process:
        try:
            output, _ = process.communicate(timeout=max(seconds, _LEAST_S))
        except subprocess.TimeoutExpired:  # it ends its run early, and reports
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate()
    if process.returncode:
        raise LoadFailed(f"{' '.join(command)}: exit status {process.returncode}\n{output}")
    done = json.loads(output.splitlines()[-1])
    errors = {name: done[name] for name in ("connect", "read", "write", "status", "timeout") if done[name]}
    if errors or (not done["requests"] and seconds > _MOST_S):
        raise LoadFailed(f"{url}: {done['requests']} requests in {seconds:g} s, errors {errors}")
    if not done["requests"]:  # the time was too short for one
        return run_paced(url, seconds=2 * seconds, connections=connections, pause_ms=pause_ms, put=put)
    return Paced(done["requests"], done["microseconds"] / 1e6)
