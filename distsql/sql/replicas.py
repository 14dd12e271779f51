"""Replicas that answer pulls, but only with everything that anybody was told was written.

Before each pull the primary is asked how far its log reaches, and a replica may answer if it has replayed that much.
Whatever was acknowledged before the question, by any process, is in it; and the question is a small one, which all
pulls that wait at the same time ask together. A replica that is behind, silent or gone is set aside, and asked now and
then whether it is back; pulls go to the primary meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

import psycopg
from sqlalchemy import BigInteger, Boolean, ColumnElement, case, cast, func, literal_column, select

from distsql.errors import CatalogueUnavailableError, SettingsError
from distsql.sql.gathering import Gathering
from distsql.sql.pipeline import Pipeline
from distsql.sql.statements import statement

if TYPE_CHECKING:
    from distsql.sql.connections import Connection, Connector, Habits
    from distsql.sql.transactions import Transaction

Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)

PATIENCE_S: Final = 5
"""How long a replica may take for an answer: its machine may be gone without a word."""
_CATCH_UP_S: Final = 0.02
_CATCH_UP_PAUSE_S: Final = 0.001
_BEHIND_PAUSE_S: Final = 0.2
_LOST_PAUSE_S: Final = 1


class LogPositionRow(NamedTuple):
    """How many bytes of the log there are, and whether this is a replica."""

    position: int | None
    replica: bool


_START: Final[ColumnElement[Any]] = literal_column("'0/0'::pg_lsn")
_replica = func.pg_is_in_recovery(type_=Boolean())
FIND_LOG_POSITION: Final = statement(
    "find_log_position",
    "How far the log reaches that is safe on the primary's disk, or that the replica has replayed.",
    select(
        cast(
            func.pg_wal_lsn_diff(
                case((_replica, func.pg_last_wal_replay_lsn()), else_=func.pg_current_wal_flush_lsn()), _START
            ),
            BigInteger(),
        ).label("position"),
        _replica.label("replica"),
    ),
    LogPositionRow,
)


async def find_log_position(tx: Transaction) -> LogPositionRow | None:
    """How far the log of the server reaches that answers."""
    return await tx.one(FIND_LOG_POSITION)


class Shared(Generic[Answer]):
    """A question that many have at once. Who comes before it is sent shares the answer, who comes later the next."""

    __slots__ = ("_ask", "_asked", "_next")

    def __init__(self, ask: Callable[[], Awaitable[Answer]]) -> None:
        self._ask = ask
        self._asked: asyncio.Task[Answer] | None = None
        self._next: asyncio.Task[Answer] | None = None

    async def __call__(self) -> Answer:
        """The answer to a question that is sent after this was called."""
        if self._next is None:
            self._next = asyncio.create_task(self._run(self._asked))
            self._next.add_done_callback(_look_at)
        # Others wait too: who gives up leaves it running.
        return await asyncio.shield(self._next)

    async def _run(self, before: asyncio.Task[Answer] | None) -> Answer:
        if before is not None:
            await asyncio.wait([before])
        self._asked, self._next = self._next, None
        return await self._ask()


def _look_at(task: asyncio.Task[Answer]) -> None:
    """Whoever asked may have gone: then nobody else looks at its error."""
    if not task.cancelled():
        task.exception()


class Replica:
    """One connection to a replica. Two of them may lead to different servers, if their URL does."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self.pipeline = Pipeline(self._connect)
        self.reads = Gathering([self.pipeline])
        self.replayed = -1
        """The bytes of the log that it is known to have."""
        self.connected = 0
        """How often a connection was made: what was known of an earlier one says nothing about a later one."""
        self.usable = False
        self.answered = 0
        self._look = Shared(self._find_position)
        self._retry_at = 0.0
        self._trial: asyncio.Task[None] | None = None

    async def _connect(self) -> tuple[Connection, Habits]:
        self.replayed = -1  # it may be another server's
        self.connected += 1
        return await self._connector.connect()

    async def _find_position(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            [row] = await self.pipeline.fetch(FIND_LOG_POSITION, {})
        found = FIND_LOG_POSITION.make_row(row)
        if not found.replica or found.position is None:
            raise psycopg.OperationalError("it is no replica of anything")
        self.replayed = max(self.replayed, found.position)

    async def reaches(self, position: int) -> bool:
        """Whether it has that much of the log, now or in a moment. Otherwise it is set aside."""
        deadline = time.monotonic() + _CATCH_UP_S
        try:
            while self.replayed < position:
                await self._look()
                if self.replayed < position and time.monotonic() > deadline:
                    self.set_aside(f"{position - self.replayed} bytes of the log behind", for_s=_BEHIND_PAUSE_S)
                    return False
                if self.replayed < position:
                    await asyncio.sleep(_CATCH_UP_PAUSE_S)
        except (psycopg.Error, TimeoutError, SettingsError) as error:
            self.set_aside(str(error) or "no answer")
            return False
        return True

    def set_aside(self, why: str, *, for_s: float = _LOST_PAUSE_S) -> None:
        """Leaves it alone for a while."""
        if self.usable:
            logger.warning("a replica is set aside, pulls go on without it: %s", why.partition("\n")[0])
        self.usable = False
        self._retry_at = time.monotonic() + for_s
        if for_s == _LOST_PAUSE_S:
            self.pipeline.forget()

    def try_again(self, find_position: Callable[[], Awaitable[int]]) -> None:
        """Asks it, beside everything else, whether it is there; not more often than now and then."""
        if time.monotonic() >= self._retry_at and (self._trial is None or self._trial.done()):
            self._retry_at = time.monotonic() + _LOST_PAUSE_S
            self._trial = asyncio.create_task(self._try(find_position))

    async def _try(self, find_position: Callable[[], Awaitable[int]]) -> None:
        try:
            if await self.reaches(await find_position()):
                self.usable = True
                logger.info("a replica answers pulls")
        except CatalogueUnavailableError:
            pass  # the primary's trouble: who asks it hears so
        except Exception:
            logger.exception("a replica can't be used")

    async def close(self) -> None:
        """Closes its connection."""
        self.usable, self._retry_at = False, float("inf")
        if self._trial is not None:
            self._trial.cancel()
        self.pipeline.close()


class Replicas:
    """The replicas of one process."""

    def __init__(self, connectors: Sequence[Connector], find_position: Callable[[], Awaitable[int]]) -> None:
        self._all = [Replica(connector) for connector in connectors]
        self._find_position = Shared(find_position)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all)

    @property
    def answered(self) -> int:
        """How many pulls they answered."""
        return sum(replica.answered for replica in self._all)

    async def choose(self) -> Replica | None:
        """One that has all that was acknowledged until now. Raises what asking the primary does."""
        usable = []
        for replica in self._all:
            if replica.usable:
                usable.append(replica)
            else:
                replica.try_again(self._find_position)
        if not usable:
            return None
        position = await self._find_position()
        up_to_date = [each for each in usable if each.replayed >= position and each.usable]
        chosen = min(up_to_date or usable, key=lambda each: len(each.pipeline))
        return chosen if chosen.usable and await chosen.reaches(position) else None

    async def close(self) -> None:
        """Closes their connections."""
        for replica in self._all:
            await replica.close()
