"""Blocking calls in threads of a store's own, so that a slow disk never stops the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar, TypeVarTuple

from distsql.errors import StoreUnavailableError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Threads:
    """A pool of up to ``size`` threads, started when needed."""

    def __init__(self, size: int, *, name: str) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._closed = False

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """The result of ``work(*args)``, called in a thread.

        A cancelled caller still waits until the call has ended (or is taken off the queue): the caller goes on to close
        the file that the thread is using, and its number could by then belong to another file.
        """
        if self._closed:
            raise StoreUnavailableError("the byte store is closed")
        call = self._pool.submit(work, *args)
        try:
            return await asyncio.wrap_future(call)  # when cancelled, it takes a call that waits off the queue
        except asyncio.CancelledError:
            await _end_of(call)
            raise

    async def close(self) -> None:
        """Waits for the calls that are under way; later ones get `StoreUnavailableError`."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)


async def _end_of(call: Future[T]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    call.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
    while not call.done():
        with suppress(asyncio.CancelledError):  # the first cancellation is already on its way to the caller
            await ended.wait()
