"""When accounts were last used: written soon the first time, and every few minutes of those that are used on and on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import pytest

from distsql.registry.authorities import Account
from distsql.registry.last_uses import LastUses
from distsql.registry.standings import Standing
from distsql.sql import accounts
from distsql.sql.database import Database
from distsql.sql.transactions import Transaction

KEY = (1, 7)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The instants that were written, of the one account that there is."""
    found: list[float] = []

    def write(tx: Transaction, used: dict[tuple[int, int], object]) -> None:
        del tx
        assert list(used) == [KEY]
        found.extend(value.timestamp() for value in used.values())  # type: ignore[attr-defined]

    monkeypatch.setattr(accounts, "set_last_used", write)
    return found


class NoDatabase:
    """What is given it is done without one."""

    async def transact(self, work: Callable[[Transaction], object]) -> None:
        await work(cast("Transaction", None))  # type: ignore[misc]


async def test_written_at_first_and_then_every_few_minutes(
    written: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    uses = LastUses(cast("Database", NoDatabase()))
    standing = Standing(Account(KEY, "acme", "ci", None, 0, 0, ()), ends=0)
    began = float(int(time.time()))  # a database keeps microseconds

    async def use(seconds: float, *, at: float | None = None) -> None:
        uses.add(standing, began + seconds)
        monkeypatch.setattr(time, "time", lambda: began + (seconds if at is None else at))
        await uses.flush()

    await use(0)
    assert written == [began]
    for seconds in range(10, 290, 20):
        await use(seconds)
    assert written == [began]
    await use(295, at=400)
    assert written == [began, began + 295]
    await use(401)
    again = Standing(standing.account, ends=0)  # read again, by whatever reason
    uses.add(again, began + 402)
    await uses.close()
    assert written == [began, began + 295, began + 402]
