"""What a worker process of `distsql serve` runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging.config
import os
import shutil
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from distsql import cores
from distsql.settings import Settings

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from distsql.web.shares import Shares

_PARENT_CHECK_S: Final = 0.5
_COLLECT_AFTER: Final = 20_000


def run_worker(
    settings: Settings, listener: socket.socket, shares: Shares, *, parent: int, folder: Path, private: bool
) -> None:
    """Serves until it is told to end. All that is imported here the main process, ``parent``, does without.

    ``folder`` is what all workers have in common; ``private`` whether PostgreSQL is.
    """
    cores.settle(folder, workers=settings.workers or 1, postgres=private)
    import uvloop

    from distsql.app import create_application
    from distsql.web.server import Server, StartError

    # Ctrl-C in a terminal is for the main process alone, which then ends its workers in order.
    os.setsid()
    logging.config.dictConfig(logging_configuration())
    stop_s = settings.stop_timeout.total_seconds()
    threading.Thread(target=_end_with_parent, args=(parent, stop_s, folder), daemon=True).start()
    # Not checked again: a worker that takes another's place goes on while the next version has migrated already.
    application = create_application(settings, check_schema=False, metrics_folder=folder)
    collect_seldom()
    with contextlib.suppress(StartError), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Server(application, listener, shares=shares, stop_s=stop_s).run())
        return
    sys.exit(1)


def collect_seldom() -> None:
    """Lets Python look for cycles seldom, and never among what was imported, which stays: a fifth more requests.

    A request leaves hardly any: reference counts free what it used. So memory grows by what this many objects take.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


def _end_with_parent(parent: int, stop_s: float, folder: Path) -> None:
    """Stops this worker when the process that started it was killed: nobody else would, and it holds the port.

    Nor would anybody remove the ``folder`` that the main process had made.
    """
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    shutil.rmtree(folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(stop_s)
    os._exit(1)


def logging_configuration() -> dict[str, Any]:
    """One JSON object a line, to standard error, from whatever runs in a worker."""
    loggers = ("distsql", "asyncio")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "distsql.api.log_lines.JSONFormatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": {
            **{name: {"handlers": ["stderr"], "level": "WARNING", "propagate": False} for name in loggers},
            # It warns of each pipeline that an error ended, which is told by the error.
            "psycopg": {"level": "ERROR"},
        },
    }
