"""What a run of garbage collection would remove, round by round, as `GarbageCollector.run` goes; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from distsql.registry.manifest_reviews import MOST_MANIFESTS
from distsql.registry.reviews import AT_ONCE, Periods
from distsql.sql import garbage_forecasts, garbage_previews
from distsql.sql.database import Database
from distsql.sql.garbage_forecasts import ForeseenRow
from distsql.sql.garbage_previews import PreviewRow
from distsql.sql.manifest_deletions import ManifestKeyRow

_NOTHING: Final = timedelta(0)
_BATCH: Final = AT_ONCE.batch


class Forecast:
    """Of one run that begins now. Manifests in rounds, of which each needs to know what went before; then the rest."""

    def __init__(self, database: Database, periods: Periods) -> None:
        self._database = database
        self._periods = periods
        self._removed: dict[ManifestKeyRow, None] = {}
        self._manifests: list[ManifestKeyRow] = []
        self._subjects: list[ManifestKeyRow] = []

    async def run(self) -> PreviewRow:
        """How much would go."""
        periods = self._periods
        due = await self._database.read(garbage_forecasts.list_due, grace=periods.grace, restore_period=periods.restore)
        self._manifests = [row.key for row in due if row.kind == "manifest"]
        self._subjects = [row.key for row in due if row.kind == "subject"]
        await self._remove_followers()
        await self._remove_manifests()
        await self._remove_followers()
        return await self._database.read(
            garbage_previews.preview_collection,
            self._removed,
            grace=periods.grace,
            restore_period=periods.restore,
            recovery_window=periods.recovery,
        )

    async def _remove_followers(self) -> None:
        """As `ManifestReview.followers`."""
        while self._subjects:
            found = await self._database.read(
                garbage_forecasts.foresee_followers,
                self._subjects[:MOST_MANIFESTS],
                self._removed,
                grace=self._periods.grace,
                limit=MOST_MANIFESTS,
            )
            waiting = {_subject(row) for row in found if row.young}
            gone = [row.key for row in found if _subject(row) not in waiting]
            if not gone or len(found) < MOST_MANIFESTS:
                del self._subjects[:MOST_MANIFESTS]
            await self._remove(gone)

    async def _remove_manifests(self) -> None:
        """As `ManifestReview.manifests`."""
        while self._manifests:
            looked_at, later = self._manifests[:_BATCH], self._manifests[_BATCH:]
            found = await self._database.read(
                garbage_forecasts.foresee_manifests,
                list(dict.fromkeys(looked_at)),
                self._removed,
                grace=self._periods.grace,
                restore_period=self._periods.restore,
            )
            candidates = {row.key for row in found if not row.young}
            unneeded = [key for key in looked_at if key in candidates]
            self._manifests = unneeded[MOST_MANIFESTS:] + later
            await self._remove(unneeded[:MOST_MANIFESTS])

    async def _remove(self, gone: Sequence[ManifestKeyRow]) -> None:
        """What they leave behind is looked at in the same run only where nothing stays for a while."""
        self._removed.update(dict.fromkeys(gone))
        if gone and self._periods.grace <= _NOTHING:
            self._subjects += gone
            self._manifests += await self._database.read(garbage_forecasts.list_foreseen_children, gone)


def _subject(row: ForeseenRow) -> tuple[object, ...]:
    return row.tenant_id, row.repository_id, row.subject_digest
