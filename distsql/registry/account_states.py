"""What accounts may do just now, as one process knows it: nothing that was taken away is older than two seconds.

A request with a token needs one answer only: does the account still count, as it was when the token was issued? That
is asked for many accounts together: about once a second for those that come often, and for others with whoever waits at
the same time. So the usual request reads nothing, and among thousands in turn it pays for a small part of a statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from distsql.errors import CredentialsInvalidError, TenantSuspendedError, UnavailableError
from distsql.registry.authorities import Account
from distsql.registry.grants import gather
from distsql.registry.last_uses import LastUses
from distsql.registry.remembering import FRESH_S, Remembered
from distsql.sql import accounts
from distsql.sql.database import Database

_LIMIT_S: Final = 1.6
"""What was last known to count this long ago is asked for again before it counts."""
_OFTEN_S: Final = 10
"""Who came so lately is asked about before the next request; others are when they come."""
_MANY: Final = 32_768
_AT_ONCE: Final = 1000


class _Counting:
    """An account that counted when it was ``checked``, by the process's clock."""

    __slots__ = ("account", "checked", "used")

    def __init__(self, account: Account, now: float) -> None:
        self.account = account
        self.checked = self.used = now


class AccountStates:
    """Of one process. ``database`` shows one tenant at a time, ``everything`` is the owner's."""

    def __init__(self, database: Database, everything: Database) -> None:
        self._database = database
        self._everything = everything
        self._last_uses = LastUses(everything)
        self._states: Remembered[tuple[int, int], Account] = Remembered()
        self._counting: dict[tuple[int, int], _Counting] = {}
        self._checking: asyncio.Task[None] | None = None
        self._batch: tuple[list[_Counting], asyncio.Task[None]] | None = None
        self._turn = asyncio.Lock()
        self._next_check = 0.0

    async def close(self) -> None:
        """Writes down who was here."""
        if self._checking is not None:
            self._checking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._checking
        await self._last_uses.close()

    def find(self, key: tuple[int, int], generation: int) -> Account | None:
        """The account if it is known to count, in this very generation. Its grants may be older than those of `get`."""
        found, now = self._counting.get(key), time.monotonic()
        if found is None or found.account.generation != generation or now - found.checked > _LIMIT_S:
            return None
        instant, expires_at = datetime.now(UTC), found.account.expires_at
        if expires_at is not None and expires_at <= instant:
            return None
        if now - found.checked > FRESH_S and now > self._next_check:
            self._next_check = now + FRESH_S / 2
            self._checking = asyncio.create_task(self._check())
        found.used = now
        self._last_uses.add(key, instant)
        return found.account

    async def confirm(self, key: tuple[int, int], generation: int) -> Account | None:
        """As `find`; what was not asked about for too long is asked about now, with all others that wait meanwhile."""
        found, known = self.find(key, generation), self._counting.get(key)
        if found is not None or known is None:
            return found
        if self._batch is None:
            some = [known]
            self._batch = some, asyncio.create_task(self._ask_about(some))
        else:
            self._batch[0].append(known)
        await asyncio.shield(self._batch[1])
        return self.find(key, generation)

    async def _ask_about(self, some: Sequence[_Counting]) -> None:
        async with self._turn:
            self._batch = None  # who comes now waits for the next answer
            with contextlib.suppress(UnavailableError):  # then each is asked about by itself, and the error told
                await self._check_some(some)

    async def get(self, key: tuple[int, int]) -> Account:
        """The account with its grants, as it was a second ago at most.

        Raises `CredentialsInvalidError` unless it counts, `TenantSuspendedError` if its tenant is suspended.
        """
        now, found = datetime.now(UTC), self._states.find(key)
        if found is None or (found.expires_at is not None and found.expires_at <= now):
            return await self.read(key)
        self._last_uses.add(key, now)
        return found

    async def read(self, key: tuple[int, int]) -> Account:
        """As `get`, as it is now."""
        now, asked = datetime.now(UTC), time.monotonic()
        row = await self._database.read_as(key[0], accounts.find_account_state, *key)
        if row is None or row.disabled_at is not None or (row.expires_at is not None and row.expires_at <= now):
            raise CredentialsInvalidError("No account has this name and secret, or it is disabled or has expired")
        if row.suspended:
            raise TenantSuspendedError(f"{row.tenant} is suspended: ask the registry's operator")
        account = Account(
            key,
            row.tenant,
            row.name,
            row.expires_at,
            row.generation,
            row.secret_generation,
            gather(row.tenant, zip(row.patterns, row.actions, strict=True)),
            row.kind,
        )
        self._states.add(key, account)
        self._remember(account, asked)
        self._last_uses.add(key, now)
        return account

    def _remember(self, account: Account, asked: float) -> None:
        if len(self._counting) >= _MANY:
            for old in list(itertools.islice(self._counting, _MANY // 4)):
                del self._counting[old]
        known = self._counting.get(account.key)
        if known is not None and known.account == account:  # what was decided for this very one goes on
            known.checked = asked
        else:
            self._counting[account.key] = _Counting(account, asked)

    async def _check(self) -> None:
        """Asks about the accounts that come so often that they are expected within the second."""
        now = time.monotonic()
        used = [
            each for each in self._counting.values() if now - each.used < _OFTEN_S and now - each.checked > FRESH_S / 2
        ]
        with contextlib.suppress(UnavailableError):
            for start in range(0, len(used), _AT_ONCE):
                await self._check_some(used[start : start + _AT_ONCE])

    async def _check_some(self, some: Sequence[_Counting]) -> None:
        asked = time.monotonic()
        generations = {each.account.key: each.account.generation for each in some}
        void = set(await self._everything.read(accounts.list_void_accounts, generations))
        for each in some:
            if each.account.key not in void:
                each.checked = max(each.checked, asked)
            elif self._counting.get(each.account.key) is each:
                del self._counting[each.account.key]
