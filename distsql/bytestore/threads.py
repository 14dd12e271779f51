"""Blocking calls in threads of a store's own, so that a slow disk never stops the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

from distsql import cores
from distsql.errors import StoreUnavailableError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Threads:
    """A pool of up to ``size`` threads, started when needed."""

    def __init__(self, size: int, *, name: str) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name, initializer=cores.leave)
        self._closed = False

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """The result of ``work(*args)``, called in a thread.

        A cancelled caller still waits until the call has ended (or is taken off the queue): the caller goes on to close
        the file that the thread is using, and its number could by then belong to another file.
        """
        if self._closed:
            raise StoreUnavailableError("the byte store is closed")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        call = self._pool.submit(partial(_answer, loop, result, work, *args))
        try:
            return await result
        except asyncio.CancelledError:
            if not call.cancel():
                await _end_of(call)
            raise

    async def close(self) -> None:
        """Waits for the calls that are under way; later ones get `StoreUnavailableError`."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)


def _answer(loop: asyncio.AbstractEventLoop, result: asyncio.Future[T], work: Callable[[*Ts], T], *args: *Ts) -> None:
    """Does the work in the thread. `asyncio.wrap_future` says the same with three times the steps."""
    try:
        done = work(*args)
    except BaseException as error:  # noqa: BLE001  # it is the caller's
        loop.call_soon_threadsafe(_settle, result, None, error)
    else:
        loop.call_soon_threadsafe(_settle, result, done, None)


def _settle(result: asyncio.Future[Any], done: object, error: BaseException | None) -> None:
    if result.cancelled():
        return
    if error is None:
        result.set_result(done)
    else:
        result.set_exception(error)


async def _end_of(call: Future[None]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    call.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
    while not call.done():
        with suppress(asyncio.CancelledError):  # the first cancellation is already on its way to the caller
            await ended.wait()
