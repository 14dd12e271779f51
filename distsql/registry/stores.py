"""Byte stores beside the one that the settings name: adding, checking, and moving a tenant from one to another."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from distsql.bytestore.contract import ByteStore, Staged
from distsql.bytestore.placement import LOST
from distsql.errors import BytesMissingError, SettingsError, TenantUnknownError
from distsql.oci.digest import Digest, new_hash
from distsql.registry.context import Backend
from distsql.registry.tenants import Tenants
from distsql.sql import audit, repositories, stores
from distsql.sql.database import Database, transactional
from distsql.sql.stores import MisplacedBlobRow, StoreRow
from distsql.sql.tables import SERVER_TENANT_ID
from distsql.sql.transactions import Transaction
from distsql.values import Caller

DEFAULT: Final = "default"
"""What the store of the settings is called by people."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z", re.ASCII)
_BATCH: Final = 50

# An address that a client was sent to is good for 20 minutes, and a pull from it may take its time.
_KEPT: Final = timedelta(hours=1)

Notify = Callable[[str, int], None]
"""Hears what was moved (``blobs``, ``bytes``) and how many of it."""


@dataclass(slots=True)
class Moved:
    """What a move did. ``damaged`` could not be moved, ``open_uploads`` still end in the old store."""

    blobs: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    open_uploads: int = 0


class Stores:
    """The byte stores that tenants may have: a service of the owner's."""

    def __init__(self, backend: Backend, caller: Caller, *, open_store: Callable[[str], ByteStore]) -> None:
        self._backend = backend
        self._caller = caller
        self._open_store = open_store

    @property
    def database(self) -> Database:
        """The catalogue, all tenants'."""
        return self._backend.everything

    async def add(self, name: str, url: str) -> None:
        """Makes a store known, once an object went all the way there and back.

        Raises `SettingsError`, `StoreUnavailableError`.
        """
        if not _NAME.match(name) or name in {DEFAULT, LOST}:
            raise SettingsError(
                f"{name[:40]!r} is no name for a store: write small letters, digits and dashes, and neither "
                f"{DEFAULT!r} nor {LOST!r}"
            )
        if url.startswith("memory:"):
            raise SettingsError("memory: is gone with its process: give a folder or an object store")
        store = self._open_store(url)
        await _check(store)
        await self._add(name, store.url)  # as the store writes it: without any secret

    @transactional
    async def _add(self, tx: Transaction, name: str, url: str) -> None:
        if not await stores.insert_store(tx, name=name, url=url):
            raise SettingsError(f"There is a store {name} already: see `distsql store list`")
        audit.insert_audit_events(
            tx, SERVER_TENANT_ID, "store.add", caller=self._caller, repository=None, references=[f"{name}={url}"]
        )

    async def all(self) -> list[StoreRow]:
        """All of them, by name."""
        return await self.database.read(stores.list_stores)

    async def check(self, name: str | None = None) -> Mapping[str, str]:
        """What is wrong with each store, empty where nothing is; of one, or of all."""
        found = {}
        urls = {DEFAULT: self._backend.store.url, **{row.name: row.url for row in await self.all()}}
        for each in (name,) if name else tuple(urls):
            if each not in urls:
                raise SettingsError(f"There is no store {each!r}: see `distsql store list`")
            found[each] = await self._problem(urls[each])
        return found

    async def _problem(self, url: str) -> str:
        try:
            await _check(self._open_store(url))
        except Exception as error:  # noqa: BLE001 - told for this store, and the others are checked as well
            return str(error)
        return ""

    # -- moving -------------------------------------------------------------------------------------------------------

    async def move(self, tenant: str, name: str, *, notify: Notify) -> Moved:
        """Gives the tenant the store, and moves everything that it has there. Done again, it goes on.

        Safe beside pushes, pulls, deletions and garbage collection: each blob is where its row says, and its row
        changes in one step, once the copy has been read back and has the right digest.
        """
        await Tenants(self.database, self._caller).set(tenant, {"store": None if name == DEFAULT else name})
        tenant_id = await self._find(tenant)
        target = await self._backend.store_named(None if name == DEFAULT else name)
        mover = _Mover(self._backend, target, tenant_id, None if name == DEFAULT else f"{name}:", notify)
        return await mover.run()

    async def remaining(self, tenant: str, name: str) -> tuple[int, int]:
        """How many blobs and bytes there are to move."""
        prefix = None if name == DEFAULT else f"{name}:"
        counted = await self.database.read(stores.count_misplaced_blobs, await self._find(tenant), prefix=prefix)
        return counted.number, counted.length

    async def _find(self, tenant: str) -> int:
        tenant_id = await self.database.read(repositories.find_tenant, tenant)
        if tenant_id is None:
            raise TenantUnknownError(f"There is no tenant {tenant[:80]!r}: `distsql tenant list` tells which there are")
        return tenant_id


class _Mover:
    """One run over a tenant's blobs."""

    def __init__(self, backend: Backend, target: ByteStore, tenant_id: int, prefix: str | None, notify: Notify) -> None:
        self._backend = backend
        self._target = target
        self._tenant_id = tenant_id
        self._prefix = prefix
        self._notify = notify
        self._moved = Moved()

    @property
    def database(self) -> Database:
        """The catalogue, all tenants'."""
        return self._backend.everything

    async def run(self) -> Moved:
        """Until nothing is left that could be moved: uploads that end meanwhile may bring more."""
        while await self._pass():
            pass
        self._moved.open_uploads = await self.database.read(
            stores.count_misplaced_uploads, self._tenant_id, prefix=self._prefix
        )
        return self._moved

    async def _pass(self) -> int:
        after, moved = b"", 0
        self._moved.damaged = []
        while page := await self.database.read(
            stores.list_misplaced_blobs, self._tenant_id, prefix=self._prefix, after=after, limit=_BATCH
        ):
            for blob in page:
                moved += await self._move(blob)
            after = page[-1].digest.packed
        return moved

    async def _move(self, blob: MisplacedBlobRow) -> bool:
        try:
            staged = await self._copy(blob)
        except BytesMissingError:
            staged = None
        if staged is None:
            if await self.database.read(stores.find_blob_key, self._tenant_id, blob.digest) == blob.store_key:
                self._moved.damaged.append(str(blob.digest))  # neither deleted nor pushed again meanwhile
            return False
        if not await self._switch(blob, staged):
            await self._target.abort(staged)
            return False
        await self._target.settle(staged)
        self._moved.blobs += 1
        self._moved.bytes += blob.length
        self._notify("blobs", 1)
        return True

    async def _copy(self, blob: MisplacedBlobRow) -> Staged | None:
        """The bytes in the other store, read back; None when they don't have the digest."""
        staged = await self._target.claim(await self._target.begin())
        try:
            async with self._target.writer(staged) as writer:
                async for piece in self._backend.store.stream(blob.store_key, 0, blob.length):
                    if writer.checkpoint_due:
                        await writer.checkpoint()
                    await writer.write(piece)
                completed = await writer.complete()
            if await self._has_digest(completed, blob):
                return completed
        except BaseException:
            await self._target.abort(staged)
            raise
        await self._target.abort(staged)
        return None

    async def _has_digest(self, staged: Staged, blob: MisplacedBlobRow) -> bool:
        hasher = new_hash(blob.digest.algorithm)
        if staged.length != blob.length:
            return False
        async for piece in self._target.stream(staged.key, 0, staged.length):
            await asyncio.to_thread(hasher.update, piece)
        return Digest.from_hash(hasher) == blob.digest

    @transactional
    async def _switch(self, tx: Transaction, blob: MisplacedBlobRow, staged: Staged) -> bool:
        """Whether the row still named the old bytes; it names the new ones now, and the old ones go later."""
        if not await stores.move_blob(tx, self._tenant_id, blob, store_key=staged.key):
            return False
        stores.condemn_moved_bytes(tx, self._tenant_id, blob, delay=_KEPT)
        return True


async def _check(store: ByteStore) -> None:
    try:
        await store.open()
    finally:
        await store.close()
