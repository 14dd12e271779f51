"""Refusals and logins: counted in memory, and written into the audit for many at once.

They change nothing, so there is no transaction to write them in. A flood of them must not fill the disk: what repeats
within an interval is one event with a count, and of many different ones all that the client chose is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from distsql.errors import UnavailableError
from distsql.registry.deferring import Deferred
from distsql.sql import audit
from distsql.sql.database import Database
from distsql.sql.transactions import Transaction
from distsql.values import Incident

_log: Final = logging.getLogger("distsql")
FLUSH_S: Final = 5.0
# In one interval: so many are told as they are; then without what the client says; then only that they were.
_WHOLE: Final = 500
_SHORT: Final = 1_000


class Incidents:
    """Of one process. Those of the last few seconds are lost when it is killed."""

    __slots__ = ("_database", "_deferred", "_found")

    def __init__(self, database: Database, *, interval_s: float = FLUSH_S) -> None:
        self._database = database
        self._deferred = Deferred(self.flush, seconds=interval_s)
        self._found: dict[Incident, tuple[int, str]] = {}

    def add(self, incident: Incident, *, request_id: str) -> None:
        """Remembers it; of those that are alike the first request's id."""
        self._deferred.want()
        found = self._found
        if incident not in found and len(found) >= _WHOLE:
            incident = incident._replace(reference=None, digest=None, user_agent="", token_id=None)
        if incident not in found and len(found) >= _SHORT:
            incident = Incident(None, "many", incident.action, incident.outcome, incident.cause)
        count, first = found.get(incident, (0, request_id))
        found[incident] = count + 1, first

    async def close(self) -> None:
        """Writes what is left."""
        await self._deferred.close()

    async def flush(self) -> bool:
        """Writes what is remembered, and tells whether it has to be tried again."""
        found, self._found = self._found, {}
        if not found:
            return False
        written = False

        async def write(tx: Transaction) -> None:
            nonlocal written
            written = False
            await audit.insert_incidents(tx, found)
            written = True

        try:
            await self._database.transact(write)
        except UnavailableError as error:
            _log.warning("Refusals and logins were not written to the audit%s: %s", "" if written else " yet", error)
            if not written:
                self._keep(found)
                return True
        return False

    def _keep(self, older: Mapping[Incident, tuple[int, str]]) -> None:
        for incident, (count, first) in older.items():
            self._found[incident] = count + self._found.get(incident, (0, ""))[0], first
