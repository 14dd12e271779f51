"""Reads that several ask for at the same time, in few statements and few flushes.

A read goes off at once unless every connection has something on its way; whoever asks meanwhile goes with the next
flush, under one Sync. Of those, who asks the same shares a statement (`statements.asked_statement`): as one tenant, or
as several whose ids are known, of which it sets each in its turn: row-level security shows one's rows at a time. Who is
told by a name goes by the id that the name had when it was last looked up, however long ago: the statement shows
nothing unless that id has the name still, and isn't suspended; then the name is looked up, as for somebody new. Nobody
waits for company, but for those who are in the event loop already, and every answer is to a question that was sent
after it was asked.

With 16 clients at once a manifest's read takes 11 us of PostgreSQL's CPU where they share a statement as one tenant, 23
as sixteen, and 69 where each has a statement and a setting of its own under the same Sync; of ours 5, 8 and 17.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import psycopg

from distsql.sql.pipeline import Pipeline, Question, StatementSkippedError, freest
from distsql.sql.statements import BY_NAME, WHO, Rows, Statement
from distsql.sql.tenant_setting import KnownTenants, Who

# In one flush, whose answers come together: of the largest manifests, 64 MiB.
_MOST: Final = 16


class _Kind(NamedTuple):
    """What those have in common who share a statement."""

    statement: Statement[Any]
    who: Who
    shared: tuple[tuple[str, Any], ...]
    """Parameters that are the same for all of them."""
    mixed: bool = False
    """They may be different tenants, each of a known id."""


class _Asker(NamedTuple):
    """Who asks, and what."""

    parameters: Mapping[str, Any]
    who: Who
    id: int | None
    """The tenant's, if it is known."""
    answer: asyncio.Future[Rows]


class Gathering:
    """Single statements that read, of one process, over these pipelines."""

    __slots__ = ("_flights", "_known", "_pipelines", "_scheduled", "_waiting")

    def __init__(self, pipelines: Sequence[Pipeline], known: KnownTenants | None = None) -> None:
        self._pipelines = pipelines
        self._known = known or KnownTenants()
        self._waiting: dict[_Kind, list[_Asker]] = {}
        self._flights = 0
        self._scheduled = False

    def fetch(self, statement: Statement[Any], parameters: Mapping[str, Any], *, who: Who) -> Awaitable[Rows]:
        """As `Pipeline.fetch`: the rows of who asks, without the number of the asker."""
        if not statement.asked:
            return freest(self._pipelines, who).fetch(statement, parameters, who=who)
        for name in statement.asked:
            parameters[name]  # one that is left out is told who left it out, and nobody else
        across = statement.across
        known = None if across is None else self._known.id_of(who)
        if across is None or known is None:
            kind = _Kind(statement, who, statement.common(parameters))
        else:
            kind = _Kind(statement, None, across.common(parameters), mixed=True)
        answer: asyncio.Future[Rows] = asyncio.get_running_loop().create_future()
        self._wait(kind, [_Asker(parameters, who, known, answer)])
        return answer

    def ask_alone(self, statement: Statement[Any], asker: _Asker) -> None:
        """With the next flush, as its tenant only."""
        self._wait(_Kind(statement, asker.who, statement.common(asker.parameters)), [asker])

    def ask_again(self, kind: _Kind, askers: list[_Asker]) -> None:
        """With the next flush."""
        self._wait(kind, askers)

    def _wait(self, kind: _Kind, askers: list[_Asker]) -> None:
        waiting = self._waiting.get(kind)
        if waiting is None:
            self._waiting[kind] = askers
        else:
            waiting.extend(askers)
        if not self._scheduled and self._flights < len(self._pipelines):
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._send_soon)

    def _send_soon(self) -> None:
        """After those whose turn in the event loop is just now, and those whose requests came meanwhile."""
        asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        batches = self._take()
        if not batches:
            return
        questions, last = [], len(batches) - 1
        for number, (kind, askers) in enumerate(batches):
            questions.append(self._question(kind, askers, is_last=number == last))
        self._flights += 1
        freest(self._pipelines, questions[0].who).ask(questions)

    def _take(self) -> list[tuple[_Kind, list[_Asker]]]:
        """Who goes with the next flush, by statement."""
        waiting, self._waiting = self._waiting, {}
        batches, room = [], _MOST
        for kind, askers in waiting.items():
            there = [asker for asker in askers if not asker.answer.done()]
            some, later = there[:room], there[room:]
            if some:
                batches.append((kind, some))
                room -= len(some)
            if later:
                self._waiting[kind] = later
        return batches

    def _question(self, kind: _Kind, askers: list[_Asker], *, is_last: bool) -> Question:
        """What is asked for those who share a statement: as one tenant, where that is so."""
        statement, who, given = kind.statement, kind.who, [asker.parameters for asker in askers]
        across = statement.across if kind.mixed and not _are_one(askers) else None
        answer = _Together(self, kind, askers, is_last=is_last, is_mixed=across is not None)
        if across is not None:
            told: dict[str, list[Any]] = {
                WHO: [asker.id for asker in askers],
                BY_NAME: [isinstance(asker.who, str) for asker in askers],
            }
            return Question(across, {**dict(kind.shared), **across.lists(given, told)}, None, answer)
        if kind.mixed:
            who = askers[0].who
        return Question(statement, {**given[0], **statement.lists(given)}, who, answer)

    def land(self) -> None:
        """A flush has had all its answers."""
        self._flights -= 1
        if self._waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._send)


def _are_one(askers: list[_Asker]) -> bool:
    """Whether all ask as the same tenant, and about the same."""
    first, *others = askers
    tenant = first.parameters["tenant"]
    return all(other.who == first.who and other.parameters["tenant"] == tenant for other in others)


class _Together:
    """The `Answer` to a statement that several share: each gets its own rows."""

    __slots__ = ("_askers", "_gathering", "_is_answered", "_is_last", "_is_mixed", "_kind")

    def __init__(
        self, gathering: Gathering, kind: _Kind, askers: list[_Asker], *, is_last: bool, is_mixed: bool
    ) -> None:
        self._gathering = gathering
        self._kind = kind
        self._askers = askers
        self._is_last = is_last  # of its flush
        self._is_mixed = is_mixed
        self._is_answered = False

    def done(self) -> bool:
        return self._is_answered

    def set_result(self, result: Rows, /) -> None:
        found: dict[int, Rows] = {}
        for row in result:
            found.setdefault(row[0], []).append(row[1:])
        for number, asker in enumerate(self._askers, 1):
            if asker.answer.done():
                continue
            rows = found.get(number)
            if rows is None and self._is_mixed and isinstance(asker.who, str):
                # Perhaps the name is another tenant's by now, or its tenant suspended: it is looked up.
                self._gathering.ask_alone(self._kind.statement, asker)
            else:
                asker.answer.set_result(rows or [])
        self._end()

    def set_exception(self, exception: Exception, /) -> None:
        if isinstance(exception, StatementSkippedError):  # what failed is not with them any more
            self._gathering.ask_again(self._kind, self._askers)
        elif self._is_mixed and not isinstance(exception, psycopg.OperationalError):
            # One tenant's row may be to blame, which is none of the others' business. A timeout or a lost connection is
            # nobody's: they were all asked.
            for asker in self._askers:
                self._gathering.ask_alone(self._kind.statement, asker)
        else:
            for asker in self._askers:
                if not asker.answer.done():
                    asker.answer.set_exception(exception)
        self._end()

    def _end(self) -> None:
        self._is_answered = True
        if self._is_last:
            self._gathering.land()
