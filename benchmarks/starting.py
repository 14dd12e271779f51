"""How long a server takes from its command to its first answer, over the content that it holds."""

from __future__ import annotations

import time

from benchmarks.load import Load, Pace, add_up
from benchmarks.servers import Server


def stop(server: Server) -> None:
    server.stop()


def start(server: Server, _: Pace) -> Load:
    began = time.perf_counter()
    server.start()
    seconds = time.perf_counter() - began
    return add_up([seconds], seconds)
