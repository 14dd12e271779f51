"""The processes that serve, kept by the one that started them."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Final

from distsql.web.shares import ABSENT, Shares

_log: Final = logging.getLogger("distsql")
# Who falls as soon as it has begun falls again: not as fast as it can.
_AGAIN_S: Final = 2
_LOOK_S: Final = 0.5
_PATIENCE_S: Final = 5  # for what a worker does beside the requests that it finishes


class Workers:
    """``number`` processes that each call ``target(*arguments, shares)``: new ones take the place of those that end."""

    def __init__(self, target: Callable[..., None], arguments: tuple[Any, ...], *, number: int) -> None:
        # Spawned: a forked one would inherit threads' locks.
        context = multiprocessing.get_context("spawn")
        self._make = context.Process
        self._target, self._arguments = target, arguments
        self._counts = context.RawArray("i", [ABSENT] * number)
        self._processes: dict[int, BaseProcess] = {}
        self._told = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT come."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Python looks at signals in its main thread alone, which may sleep while another thread gets them.
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._tell)
        started = 0.0
        while not self._told:
            if self._missing and time.monotonic() - started >= _AGAIN_S:
                started = time.monotonic()
                for number in self._missing:
                    self._start(number)
            sentinels = [process.sentinel for process in self._processes.values()]
            wait([reading, *sentinels], _LOOK_S if self._missing else None)
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 4096)
            self._forget_ended()

    @property
    def _missing(self) -> list[int]:
        return [number for number in range(len(self._counts)) if number not in self._processes]

    def _tell(self, *_: object) -> None:
        self._told = True

    def _start(self, number: int) -> None:
        process = self._make(target=self._target, args=(*self._arguments, Shares(self._counts, number)))
        process.start()
        self._processes[number] = process

    def _forget_ended(self) -> None:
        for number, process in list(self._processes.items()):
            if not process.is_alive():
                self._counts[number] = ABSENT
                del self._processes[number]
                if not self._told:
                    _log.warning("A worker ended with status %s: another takes its place", process.exitcode)

    def stop(self, seconds: float) -> None:
        """Has them finish what they do, and ends those that take longer."""
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + seconds + _PATIENCE_S
        for process in self._processes.values():
            process.join(max(0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
