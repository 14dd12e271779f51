"""What PostgreSQL's errors mean, and which work is run again because of them."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import psycopg

from distsql.errors import CatalogueBusyError, CatalogueUnavailableError
from distsql.sql import constraints

Result = TypeVar("Result")

# A transaction lost against another one, and would most likely succeed if it ran again.
LOST_RACES: Final = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.UniqueViolation,
)
# OperationalErrors of a connection that lives on: the statement was refused, nothing is committed.
REFUSALS: Final = (*LOST_RACES, psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)
# The connection is gone, or leads to a server that takes no writes (any more).
_LOST_CONNECTIONS: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
)
_ATTEMPTS: Final = 8


def after(failure: psycopg.Error, run: Callable[[], Awaitable[Result]]) -> Callable[[], Awaitable[Result]]:
    """What `repeat` is to run when it was run once already, and ended so."""
    failures = [failure]

    def attempt() -> Awaitable[Result]:
        if failures:
            raise failures.pop()
        return run()

    return attempt


async def repeat(run: Callable[[], Awaitable[Result]], *, forget_idle: Callable[[], Awaitable[None]]) -> Result:
    """Runs it, again from its beginning when it lost a race, or once when the connection had died; or tells why not."""
    lost_connections = 0
    for attempt in itertools.count(1):
        try:
            return await run()
        except LOST_RACES as error:
            if attempt >= _ATTEMPTS:
                raise CatalogueBusyError("Too many others changed the same rows; try again") from error
            await asyncio.sleep(random.uniform(0, 0.002 * 2**attempt))  # noqa: S311  # jitter, no secret
        except psycopg.IntegrityError as error:
            meaning = constraints.meaning(error)
            if meaning is None:
                raise
            raise meaning from error
        except psycopg.errors.QueryCanceled as error:
            raise CatalogueBusyError("The catalogue took longer than DISTSQL_STATEMENT_TIMEOUT") from error
        except psycopg.errors.LockNotAvailable as error:
            raise CatalogueBusyError("Others held the same rows longer than DISTSQL_LOCK_TIMEOUT") from error
        except _LOST_CONNECTIONS as error:
            # Nothing was committed: a commit raises another error. A connection that died while it was idle is no
            # reason to fail: once more, on a new one.
            await forget_idle()
            lost_connections += 1
            if lost_connections > 1:
                raise CatalogueUnavailableError(f"The catalogue's PostgreSQL went away: {first_line(error)}") from error
    raise AssertionError("the loop returns or raises")


def first_line(error: psycopg.Error) -> str:
    """What it says, without the details."""
    return str(error).partition("\n")[0]
