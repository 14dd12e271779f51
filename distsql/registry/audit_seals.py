"""Seals over the audit: made after the fact, so that no push waits; checked by whoever doubts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from distsql.registry.audit_chains import Finding, Seal, check_content, check_link
from distsql.sql import audit_seals
from distsql.sql.audit_seals import RootRow
from distsql.sql.database import Database
from distsql.sql.transactions import Transaction

_PAGE: Final = 50
_POLL_S: Final = 0.05
_PATIENCE_S: Final = 60
# Clocks are set back by so much now and then; and behind "until" the next event begins.
_MARGIN: Final = timedelta(seconds=1)


class AuditSeals:
    """Of every tenant: a service of the owner's."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def settled(self, *, margin: timedelta = _MARGIN) -> datetime | None:
        """An instant before which no event will come any more, or None when writers take too long.

        Who writes events holds a lock of their table until its transaction is over, and takes it before it looks at the
        clock. So: look at the clock, then at who writes, and wait until those are done.
        """
        until = await self._database.read(audit_seals.find_now)
        writers = await self._database.read(audit_seals.list_audit_writers)
        deadline = time.monotonic() + _PATIENCE_S
        while writers:
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(_POLL_S)
            writers &= await self._database.read(audit_seals.list_audit_writers)
        return until - margin

    async def seal(self, *, unless_since: timedelta | None = None, margin: timedelta = _MARGIN) -> int:
        """How many events were sealed: all that are settled, unless somebody else seals, or did so a moment ago."""
        if unless_since is not None:
            last = await self._database.read(audit_seals.find_last_sealed)
            if last is not None and last > await self._database.read(audit_seals.find_now) - unless_since:
                return 0
        until, total = await self.settled(margin=margin), 0
        if until is None:
            return 0
        limit = until

        async def work(tx: Transaction) -> int:
            if not await audit_seals.lock_sealer(tx):
                return 0
            return sum(row.events for row in await audit_seals.seal_events(tx, until=limit))

        while sealed := await self._database.transact(work):
            total += sealed
        return total

    async def roots(self) -> list[RootRow]:
        """The last seal of every tenant: kept elsewhere, they show when the whole chain was made anew."""
        return await self._database.read(audit_seals.list_roots)

    async def verify(
        self, *, tenant: str | None = None, kept: Mapping[tuple[int, int], bytes] | None = None
    ) -> AsyncIterator[Finding]:
        """What is wrong. ``kept`` are roots that were kept elsewhere, by tenant's id and number."""
        kept = kept or {}
        heads = await self.roots()
        for head in heads:
            if tenant is None or head.tenant == tenant:
                async for finding in self._verify_tenant(head.tenant_id, kept):
                    yield finding
        last = {head.tenant_id: head.number for head in heads}
        for tenant_id, number in kept:
            if tenant is None and last.get(tenant_id, 0) < number:
                yield Finding(tenant_id, number, "seal missing", f"Seal {number}, whose root was kept, is missing")

    async def _verify_tenant(self, tenant_id: int, kept: Mapping[tuple[int, int], bytes]) -> AsyncIterator[Finding]:
        before: Seal | None = None
        after = 0
        while page := await self._database.read(audit_seals.list_seals, tenant_id, after=after, limit=_PAGE):
            for row in page:
                seal = Seal._make(row[: len(Seal._fields)])
                link = check_link(seal, before)
                if link is not None:
                    yield link
                if kept.get((tenant_id, seal.number), seal.root) != seal.root:
                    yield Finding(
                        tenant_id, seal.number, "rewritten", f"Seal {seal.number} has another root than the one kept"
                    )
                content = check_content(seal, events=row.found_events, content=row.found_content)
                if content is not None and row.exported_at is None:
                    yield content
                before = seal
            after = page[-1].number
