"""What accounts may do just now, as one process knows it: what was taken away a second ago counts no more.

An account's state is read once, and remembered for as long as a token lives. Whoever changes it says so in the same
transaction; what is new of that is read within each second in which requests come, once for all of them. Then only
those accounts are read again. A process that can't read what is new takes nothing that it remembers for true.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from distsql.errors import CredentialsInvalidError, TenantSuspendedError, UnavailableError
from distsql.registry.authorities import Account
from distsql.registry.grants import gather
from distsql.registry.last_uses import LastUses
from distsql.registry.remembering import FRESH_S, Remembered
from distsql.registry.standings import Standing
from distsql.registry.tokens import ACCESS_LIFETIME
from distsql.sql import access_changes, accounts
from distsql.sql.access_changes import NOTHING_READ, AccessChangeRow
from distsql.sql.accounts import AccountStateRow
from distsql.sql.database import Database

_AGAIN_S: Final = 0.6
"""Changes that were read this long ago are read again beside the requests, so that none has to wait for it."""


class AccountStates:
    """Of one process. ``database`` shows one tenant at a time, ``everything`` is the owner's."""

    def __init__(self, database: Database, everything: Database) -> None:
        self._database = database
        self._everything = everything
        self._last_uses = LastUses(everything)
        self._states: Remembered[tuple[int, int], Standing] = Remembered(Standing.end)
        self._horizon = NOTHING_READ
        self._seen: frozenset[int | None] = frozenset()
        self._turns = 0
        """How often something was forgotten: what was asked before may be older than that."""
        self._read_at = -FRESH_S
        """By the process's clock: all changes that were committed before are known."""
        self._reading: asyncio.Task[UnavailableError | None] | None = None

    async def close(self) -> None:
        """Writes down who was here."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        await self._last_uses.close()

    def vouches(self, standing: Standing, now: float) -> bool:
        """Whether the account is known to count still, without waiting for anything; then it is used ``now``."""
        age = time.monotonic() - self._read_at
        if age > _AGAIN_S:
            if age > FRESH_S:
                return False
            self._begin_reading()
        if not standing.counts or standing.ends <= now:
            return False
        self._last_uses.add(standing, now)
        return True

    async def get(self, key: tuple[int, int]) -> Standing:
        """The account with its grants, as it was a second ago at most.

        Raises `CredentialsInvalidError` unless it counts, `TenantSuspendedError` if its tenant is suspended.
        """
        wanted = time.monotonic() - FRESH_S
        while self._read_at < wanted:  # one that begins now will do, however long it takes
            error = await asyncio.shield(self._begin_reading())
            if error is not None:
                raise error
        found = self._states.find(key)
        return found if found is not None and self.vouches(found, time.time()) else await self.read(key)

    async def read(self, key: tuple[int, int]) -> Standing:
        """As `get`, as it is now."""
        turns = self._turns
        row = await self._database.read_as(key[0], accounts.find_account_state, *key)
        now = datetime.now(UTC)
        if row is None or row.disabled_at is not None or (row.expires_at is not None and row.expires_at <= now):
            raise CredentialsInvalidError("No account has this name and secret, or it is disabled or has expired")
        if row.suspended:
            raise TenantSuspendedError(f"{row.tenant} is suspended: ask the registry's operator")
        latest = now + ACCESS_LIFETIME
        standing = Standing(_account(key, row), ends=min(row.expires_at or latest, latest).timestamp())
        if turns == self._turns:
            self._states.add(key, standing, seconds=ACCESS_LIFETIME.total_seconds())
        else:  # it may have been forgotten while it was being read: nobody would hear of that
            standing.end()
        self._last_uses.know(key, row.last_used_at)
        self._last_uses.add(standing, now.timestamp())
        return standing

    def _begin_reading(self) -> asyncio.Task[UnavailableError | None]:
        """One for all that want it."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_changes())
        return self._reading

    async def _read_changes(self) -> UnavailableError | None:
        asked = time.monotonic()
        try:
            rows = await self._everything.read(access_changes.list_access_changes, self._horizon)
        except UnavailableError as error:
            return error
        horizon = rows[0].horizon
        if horizon < self._horizon:  # the first time; or the database is another one, which has lost transactions
            self._turns += 1
            self._states.clear()
        self._forget([row for row in rows if row.id not in self._seen])
        self._seen = frozenset(row.id for row in rows)
        self._horizon = horizon
        self._read_at = asked
        return None

    def _forget(self, changes: Sequence[AccessChangeRow]) -> None:
        tenants = {row.tenant_id for row in changes if row.id is not None and row.account_id is None}
        for row in changes:
            if row.tenant_id is not None and row.account_id is not None:
                self._states.forget((row.tenant_id, row.account_id))
        for key in [key for key in self._states if key[0] in tenants] if tenants else ():
            self._states.forget(key)
        self._turns += any(row.id is not None for row in changes)


def _account(key: tuple[int, int], row: AccountStateRow) -> Account:
    return Account(
        key,
        row.tenant,
        row.name,
        row.expires_at,
        row.generation,
        row.secret_generation,
        gather(row.tenant, zip(row.patterns, row.actions, strict=True)),
        row.kind,
    )
