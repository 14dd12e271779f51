"""What a worker process of `distsql serve` runs."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

from distsql import cores
from distsql.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from distsql.values import ASGIApplication

_PARENT_CHECK_S: Final = 0.5
_COLLECT_AFTER: Final = 20_000


def load_application(settings: Settings, *, parent: int, folder: Path, private: bool) -> ASGIApplication:
    """The ASGI application of this process. It is imported here, so that the main process, ``parent``, does without.

    ``folder`` is what all workers have in common; ``private`` whether PostgreSQL is.
    """
    cores.settle(folder, workers=settings.workers or 1, postgres=private)
    from distsql.app import create_application

    # Ctrl-C in a terminal is for the main process alone, which then ends its workers in order.
    os.setsid()
    stop_s = settings.stop_timeout.total_seconds()
    threading.Thread(target=_end_with_parent, args=(parent, stop_s, folder), daemon=True).start()
    # Not checked again: a worker that takes another's place goes on while the next version has migrated already.
    application = create_application(settings, check_schema=False, metrics_folder=folder)
    collect_seldom()
    return application


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
