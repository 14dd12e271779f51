"""Garbage collection by a server itself, beside what it serves."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

from distsql.registry.context import Backend
from distsql.registry.garbage import CollectingElsewhereError, GarbageCollector
from distsql.registry.reviews import BESIDE_REQUESTS, Periods
from distsql.values import Caller

_log: Final = logging.getLogger("distsql")
_ACTOR: Final = Caller(actor="garbage-collection")


class Collecting:
    """In each process that serves; of all of them one at a time works, the others find that it does."""

    def __init__(self, backend: Backend, periods: Periods) -> None:
        self._backend = backend
        self._periods = periods

    async def run(self) -> None:
        """One run, unless another process is at it. What stops it in the middle is gone on with by the next."""
        collector = GarbageCollector(
            self._backend,
            _ACTOR,
            periods=self._periods,
            notify=_tell_nobody,
            pace=BESIDE_REQUESTS,
            patient=False,
        )
        try:
            with suppress(CollectingElsewhereError):
                await collector.run()
        finally:
            found = collector.collected
            if found.blobs or found.manifests or found.freed_bytes:
                _log.info("garbage collection: %s", found)


def _tell_nobody(what: str, count: int) -> None:
    del what, count
