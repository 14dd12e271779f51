"""What accounts may do just now, as one process knows it: nothing that was taken away is older than two seconds.

A request with a token needs one answer only: does the account still count, as it was when the token was issued? That
is asked for all accounts that came lately together, about once a second. So the usual request reads nothing, however
many accounts there are, and however seldom each of them comes.
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
_LEAVES_S: Final = 60
"""Who doesn't come for so long isn't asked for any more."""
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
        if now - found.checked > FRESH_S:
            self._begin_check()
        found.used = now
        self._last_uses.add(key, instant)
        return found.account

    async def confirm(self, key: tuple[int, int], generation: int) -> Account | None:
        """As `find`; what was not asked about for too long is asked about now, with all others that came lately."""
        known = self._counting.get(key)
        if known is not None and self.find(key, generation) is None:
            known.used = time.monotonic()
            await asyncio.shield(self._begin_check())
        return self.find(key, generation)

    def _begin_check(self) -> asyncio.Task[None]:
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())
        return self._checking

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
        """Forgets the accounts that don't count any more as they did, and those that nobody asked for lately."""
        now = time.monotonic()
        used = [each for each in self._counting.values() if now - each.used < _LEAVES_S]
        self._counting = {each.account.key: each for each in used}
        with contextlib.suppress(UnavailableError):  # then each is asked for by itself, and the error told
            for start in range(0, len(used), _AT_ONCE):
                await self._check_some(used[start : start + _AT_ONCE])

    async def _check_some(self, some: Sequence[_Counting]) -> None:
        asked = time.monotonic()
        generations = {each.account.key: each.account.generation for each in some}
        counting = await self._everything.read(accounts.list_counting_accounts, generations)
        for each in some:
            if each.account.key in counting:
                each.checked = max(each.checked, asked)
            elif self._counting.get(each.account.key) is each:
                del self._counting[each.account.key]
