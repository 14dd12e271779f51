"""Work that a server does by itself ends with the server, whatever it is doing just then."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from distsql.errors import CatalogueUnavailableError
from distsql.registry.repeating import Repeated


async def test_it_goes_on_after_errors() -> None:
    done = asyncio.Semaphore(0)

    async def work() -> None:
        done.release()
        raise CatalogueUnavailableError("away")

    repeated = Repeated("working", work, seconds=0)
    repeated.begin()
    for _ in range(3):
        await done.acquire()
    await repeated.close()


async def test_it_is_stopped_in_the_middle() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    repeated = Repeated("working", work, seconds=0)
    repeated.begin()
    await begun.wait()
    await repeated.close()
    assert ended.is_set()


async def test_a_cancellation_that_gets_lost_stops_it_all_the_same() -> None:
    """`asyncio.wait_for` of Python 3.11 loses one that comes together with the result, and psycopg waits by it."""
    begun = asyncio.Event()
    times = 0

    async def work() -> None:
        nonlocal times
        times += 1
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    repeated = Repeated("working", work, seconds=0)
    repeated.begin()
    await begun.wait()
    async with asyncio.timeout(5):
        await repeated.close()
    assert times == 1


async def test_closing_what_was_never_begun_is_harmless() -> None:
    async def work() -> None:
        pytest.fail("nobody asked for it")

    await Repeated("working", work, seconds=0).close()
