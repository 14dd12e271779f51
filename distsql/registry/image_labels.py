"""Labels of images: read out of their configs a moment after the push, many at a time. No push waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from distsql.bytestore.contract import ByteStore
from distsql.errors import BytesMissingError, ManifestInvalidError, UnavailableError
from distsql.oci.digest import Digest
from distsql.oci.manifest.image_config import IMAGE_CONFIGS, MAX_LENGTH, read_labels
from distsql.registry.deferring import Deferred
from distsql.sql import image_labels, late_labels, turns
from distsql.sql.database import Database
from distsql.sql.image_labels import ConfigRow
from distsql.sql.transactions import Transaction

_log: Final = logging.getLogger("distsql")
_INTERVAL_S: Final = 2.0
_TOGETHER: Final = 200  # configs in a transaction; their bytes are read one after the other
_MOST: Final = 10_000  # that are remembered; `read_late` finds the others
LATE: Final = "reading late labels"  # a turn of all servers
_LOOK: Final = timedelta(minutes=10)  # of pushes that are looked at in one statement
_LONGEST_LOOK: Final = timedelta(hours=6)  # back; `read_rest` finds what is older
_COMMITTED: Final = timedelta(minutes=2)  # until who wrote into the audit has committed, however slow
_BEGINNING: Final = (-1, -1, b"")


class ImageLabels:
    """Of one process. What it hasn't read when it is killed is read by whoever looks next (`read_late`)."""

    __slots__ = ("_database", "_deferred", "_new", "_store")

    def __init__(self, database: Database, store: ByteStore, *, interval_s: float = _INTERVAL_S) -> None:
        self._database = database
        self._store = store
        self._deferred = Deferred(self.flush, seconds=interval_s)
        self._new: dict[tuple[str, Digest], None] = {}

    def add(self, tenant: str, digest: Digest) -> None:
        """An image with this config was pushed."""
        if len(self._new) < _MOST:
            self._new[tenant, digest] = None
            self._deferred.want()

    async def close(self) -> None:
        """Reads what is left."""
        await self._deferred.close()

    async def flush(self) -> bool:
        """Reads what was pushed, and tells whether it has to be tried again."""
        new, self._new = list(self._new), {}
        try:
            while new:
                some = new[:_TOGETHER]
                await self._save(await self._database.read(partial(image_labels.find_unread_configs, configs=some)))
                del new[: len(some)]
        except UnavailableError as error:
            _log.warning("Labels of images were not read yet: %s", error)
            self._new = {**dict.fromkeys(new), **self._new}
            return True
        return False

    async def read_late(self, *, page: int = _TOGETHER, pause_s: float = 0.1) -> int:
        """How many configs were read that somebody should have read: of a server that was killed.

        It looks at what was pushed since it last did, some minutes at a time, and a little more: what is told in the
        audit may be committed later.
        """
        reached = await self._database.read(partial(turns.find_reached, name=LATE, period=_LONGEST_LOOK))
        since, count = reached.since, 0
        while since < reached.until:
            until = min(since + _LOOK, reached.until)
            count += await self._read_pushed((since, until), page=page)
            at = min(until, reached.until - _COMMITTED)
            await self._database.transact(partial(turns.keep_reached, name=LATE, at=at))
            since = until
            await asyncio.sleep(pause_s)
        return count

    async def _read_pushed(self, span: tuple[datetime, datetime], *, page: int) -> int:
        after, count = _BEGINNING[1:], 0
        look = partial(late_labels.list_late_configs, span=span, media_types=sorted(IMAGE_CONFIGS), limit=page)
        while rows := await self._database.read(partial(look, after=after)):
            after = rows[-1].tenant_id, rows[-1].digest.packed
            count += await self._save(rows)
            if len(rows) < page:
                break
        return count

    async def read_rest(self, *, page: int = _TOGETHER, pause_s: float = 0.1) -> int:
        """How many configs were read that nobody had read: of an earlier version, or whose bytes were away.

        It looks at every manifest, page by page and with rest between them; then forgets what is there no more.
        """
        after, count, media_types = _BEGINNING, 0, sorted(IMAGE_CONFIGS)
        look = partial(image_labels.list_images, media_types=media_types, limit=page)
        while rows := await self._database.read(partial(look, after=after)):
            last = rows[-1]
            after = last.tenant_id, last.repository_id, last.manifest_digest.packed
            unread = dict.fromkeys(row.config for row in rows if row.config is not None)
            count += await self._save(list(unread))
            await asyncio.sleep(pause_s)
        await self._forget(page, pause_s)
        return count

    async def _forget(self, page: int, pause_s: float) -> None:
        after = _BEGINNING[1:]
        look = partial(image_labels.forget_image_configs, limit=page)
        while row := await self._database.transact(partial(look, after=after)):
            after = row.tenant_id, row.digest.packed
            await asyncio.sleep(pause_s)
        behind = *_BEGINNING, ""
        look_again = partial(image_labels.forget_manifest_labels, limit=page)
        while label := await self._database.transact(partial(look_again, after=behind)):
            behind = label.tenant_id, label.repository_id, label.manifest_digest.packed, label.key
            await asyncio.sleep(pause_s)

    async def _save(self, rows: Sequence[ConfigRow]) -> int:
        found = {row: labels for row in rows if (labels := await self._labels(row)) is not None}
        if found:

            async def write(tx: Transaction) -> None:
                image_labels.insert_image_configs(tx, found)

            await self._database.transact(write)
        return len(found)

    async def _labels(self, row: ConfigRow) -> Mapping[str, str] | str | None:
        """What the config has, or what is wrong with it. None: its bytes are away just now."""
        if row.length > MAX_LENGTH:
            return f"it has {row.length} bytes, more than {MAX_LENGTH}"
        try:
            payload = await self._store.read(row.store_key, 0, row.length)
            return read_labels(payload)
        except ManifestInvalidError as error:
            return error.message
        except (BytesMissingError, UnavailableError) as error:
            _log.warning("A config's labels were not read: %s", error)
            return None
