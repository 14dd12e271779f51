"""Old audit: written out month by month, compared with its seals, and only then dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from distsql.errors import AuditExportError
from distsql.registry.administration import Administration
from distsql.registry.audit_chains import Finding, Seal, check_content, content_of, event_hash, written
from distsql.registry.audit_seals import AuditSeals
from distsql.sql import audit, audit_exports, audit_seals
from distsql.sql.audit_exports import MonthRow
from distsql.sql.database import transactional
from distsql.sql.tables import SERVER_TENANT_ID
from distsql.sql.transactions import Transaction

_PAGE: Final = 1000
_SEALS: Final = 50
_BEGINNING: Final = (-1, "-infinity", 0)

Event = Mapping[str, Any]


class AuditExports(Administration):
    """Of every tenant: a service of the owner's."""

    __slots__ = ()

    async def months(self, *, before: datetime) -> Sequence[MonthRow]:
        """Those that were over before the instant, oldest first; also such that nobody made a partition for."""
        from distsql.sql import schema  # noqa: PLC0415  # brings alembic, which servers do without

        await asyncio.to_thread(schema.make_past_partitions, self._database.url, before=before)
        return await self._database.read(audit_exports.list_audit_months, before=before)

    async def events(self, month: MonthRow) -> AsyncIterator[Event]:
        """The month's, by tenant's id, instant and id. Raises `AuditExportError` while some have no seal."""
        unsealed = await self._database.read(audit_exports.count_unsealed_events, month)
        if unsealed:
            raise AuditExportError(
                f"{unsealed} events of {month.name} are not sealed yet: `distsql audit seal` does it"
            )
        after = _BEGINNING
        while page := await self._database.read(audit_exports.list_audit_events, month, after=after, limit=_PAGE):
            for row in page:
                yield row._asdict()
            after = (page[-1].tenant_id, page[-1].at, page[-1].id)

    async def check(self, month: MonthRow, events: Iterable[Event]) -> AsyncIterator[Finding]:
        """What is wrong with events of the month that were read back, beside the seals in the catalogue."""
        begins, ends = written(month.begins_at), written(month.ends_at)
        found: dict[int, list[Event]] = {}
        for event in events:
            found.setdefault(event["tenant_id"], []).append(event)
        for root in await AuditSeals(self._database).roots():
            mine, used = found.pop(root.tenant_id, []), 0
            async for seal in self._seals(root.tenant_id):
                if begins <= written(seal.until_at) < ends:
                    some = [event for event in mine if _holds(seal, event["at"])]
                    used += len(some)
                    wrong = check_content(seal, events=len(some), content=content_of(map(event_hash, some)))
                    if wrong is not None:
                        yield wrong
            if used != len(mine):
                yield Finding(root.tenant_id, 0, "added", f"{len(mine) - used} events are in no seal of the month")
        for tenant_id, rest in found.items():
            yield Finding(tenant_id, 0, "added", f"{len(rest)} events are of a tenant without seals")

    async def _seals(self, tenant_id: int) -> AsyncIterator[Seal]:
        after = 0
        while page := await self._database.read(audit_seals.list_seals, tenant_id, after=after, limit=_SEALS):
            for row in page:
                yield Seal._make(row[: len(Seal._fields)])
            after = page[-1].number

    @transactional
    async def drop(self, tx: Transaction, month: MonthRow, *, file: str, sha256: str) -> None:
        """Takes the month out of the catalogue. Its seals stay, so that the file can be checked for ever."""
        audit_exports.drop_audit_month(tx, month)
        references = [month.name, file, f"sha256:{sha256}"]
        audit.insert_audit_events(
            tx, SERVER_TENANT_ID, "audit.export", caller=self._caller, repository=None, references=references
        )


def _holds(seal: Seal, at: str) -> bool:
    return (seal.from_at is None or written(seal.from_at) < at) and at <= written(seal.until_at)
