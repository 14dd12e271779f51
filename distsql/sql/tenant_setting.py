"""Whose rows a connection shows: what is sent to say so, ahead of a statement and together with it.

A tenant is told by its name, and its id looked up on the way: whoever reads has no id to learn first, and no round trip
to learn it by. Row-level security looks at the setting; statements look names up themselves.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from distsql.errors import TenantSuspendedError

if TYPE_CHECKING:
    from psycopg import Error
    from psycopg.pq.abc import PGresult

    from distsql.sql.connections import Habits

Who = str | int | None
"""A tenant by its name or its id, or nobody."""

FRESH_S: Final = 1
"""How long a connection goes on as the tenant of a name without looking it up again."""


class SettingStatements:
    """The statements that tell a connection of these habits whose rows it shows, and all else that it doesn't keep.

    A name's tells the id and whether the tenant is suspended. That of no tenant is null: nothing is set then.
    """

    __slots__ = ("_also",)

    def __init__(self, habits: Habits) -> None:
        pairs = (f"set_config({_quoted(name)}, {_quoted(value)}, true)" for name, value in habits.settings)
        self._also = "".join(f", {each}" for each in pairs)

    def pick(self, who: Who, *, keep: bool = False) -> tuple[str, str, str]:
        """A name for the statement, the statement, and its parameter; for the transaction, or for the connection."""
        verb, scope = ("keep", "false") if keep else ("set", "true")
        if isinstance(who, str):
            sql = f"select id, suspended, set_config('app.tenant_id', id::text, {scope}){self._also} from tenant_of($1)"  # noqa: S608
            return f"{verb}_tenant", sql, who
        sql = f"select set_config('app.tenant_id', $1, {scope}){self._also}"
        return f"{verb}_tenant_id", sql, "" if who is None else str(who)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_MANY: Final = 100_000


class KnownTenants:
    """Ids that reads learned of names: looking one up takes locks, and part of a statement."""

    __slots__ = ("_settings",)

    def __init__(self) -> None:
        self._settings: dict[str, TenantSetting] = {}

    def learn(self, setting: TenantSetting) -> None:
        """Remembers what was answered; of a tenant that isn't there, or is suspended, nothing."""
        if not isinstance(setting.who, str):
            return
        if setting.id is None or setting.suspended:
            self._settings.pop(setting.who, None)
            return
        if len(self._settings) >= _MANY:
            self._settings.clear()
        self._settings[setting.who] = setting

    def best(self, tenant: str) -> str | int:
        """For a transaction: the tenant by its id, if it was looked up within the last second, or else by its name."""
        setting = self._settings.get(tenant)
        return setting.id if setting is not None and setting.id is not None and setting.serves(tenant) else tenant

    def id_of(self, who: Who) -> int | None:
        """The tenant's id, for a statement that looks whether it has the name still."""
        if isinstance(who, str):
            setting = self._settings.get(who)
            return None if setting is None else setting.id
        return who


class TenantSetting:
    """What a connection was told, and what it answered."""

    __slots__ = ("_fresh_until", "error", "id", "suspended", "who")

    def __init__(self, who: Who) -> None:
        self.who = who
        self.id = who if isinstance(who, int) else None
        self.suspended = False
        self.error: Error | None = None
        # Of an id there is nothing to look up again.
        self._fresh_until = time.monotonic() + FRESH_S if isinstance(who, str) else float("inf")

    def serves(self, who: Who) -> bool:
        """Whether a statement may follow for this one, without another setting.

        Not before a name's id is known: a tenant that wasn't there may be made at any time.
        """
        if who == self.who:
            return who is None or (self.id is not None and self._fresh_until > time.monotonic())
        return isinstance(who, int) and who == self.id

    def take(self, result: PGresult) -> None:
        """Learns from the answer to a name."""
        if isinstance(self.who, str) and result.ntuples:
            found, suspended = result.get_value(0, 0), result.get_value(0, 1)
            self.id = None if found is None else int(found)
            self.suspended = suspended == b"t"

    def refusal(self) -> Exception | None:
        """Why nothing is answered to what was sent behind it."""
        if self.error is not None:
            return self.error
        if self.suspended:
            return TenantSuspendedError(f"{self.who} is suspended: ask the registry's operator")
        return None
