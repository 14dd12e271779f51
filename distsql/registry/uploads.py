"""Upload sessions: bytes that arrive in any number of requests, at any of the processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self
from uuid import UUID

from distsql.bytestore.contract import ByteStore, Staged, StagedWriter
from distsql.errors import DigestInvalidError, UploadRangeError, UploadUnknownError
from distsql.oci.digest import Digest, new_hash
from distsql.registry.context import RepositoryContext
from distsql.registry.stored_layer import StoredLayer
from distsql.sql import layers, uploads
from distsql.sql.database import Database, Transaction, transactional
from distsql.sql.layers import BlobRow
from distsql.sql.repositories import RepositoryRow
from distsql.sql.uploads import UploadRow

if TYPE_CHECKING:
    from hashlib import _Hash

# Bytes are hashed and written in batches, both at once and in worker threads, while the next batch arrives: two batches
# are in memory. Smaller ones cost more thread switches, larger ones only memory.
BATCH: Final = 512 * 1024
# Hashing this much takes less time than handing it to a thread.
_INLINE_HASH: Final = 32 * 1024


class Upload:
    """`distsql.contract.LayerUpload` over the catalogue and a byte store."""

    def __init__(self, context: RepositoryContext, row: UploadRow, *, fresh: bool = False) -> None:
        self._context = context
        self._row = row
        self._fresh = fresh  # begun by this very request: nobody else knows of it yet
        self._staged = Staged(row.store_key, row.offset_bytes, row.store_state)
        self._offset = row.offset_bytes
        self._hash: _Hash | None = None
        self._writer: StagedWriter | None = None
        self._batch = bytearray()
        self._storing: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def database(self) -> Database:
        """The catalogue."""
        return self._context.database

    @property
    def _store(self) -> ByteStore:
        return self._context.backend.store

    @property
    def uuid(self) -> UUID:
        """The session's name, which is also its secret."""
        return self._row.uuid

    @property
    def started_at(self) -> datetime:
        """When the session began."""
        return self._row.started_at

    @property
    def expires_at(self) -> datetime:
        """When the session is forgotten unless something is written to it."""
        return self._row.expires_at

    def tell(self) -> int:
        """Bytes so far."""
        return self._offset

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """An upload only grows at its end: any other position is `UploadRangeError`."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._offset}[whence]
        if start + offset != self._offset:
            raise UploadRangeError(
                f"The upload stands at {self._offset} bytes, not at {start + offset}: go on from there",
                offset=self._offset,
            )
        return self._offset

    # -- bytes --------------------------------------------------------------------------------------------------------

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Adds the data at the end."""
        await self._open()
        self._batch += data
        self._offset += len(data)
        if len(self._batch) >= BATCH:
            await self._store_batch()
        return len(data)

    async def read_from(self, source: AsyncIterator[bytes]) -> int:
        """Adds everything that the source gives."""
        before = self._offset
        async for data in source:
            await self.write(data)
        return self._offset - before

    async def _open(self) -> StagedWriter:
        """Shuts other writers out, and makes sure that none was faster since the session was read."""
        if self._writer is not None:
            return self._writer
        writer = self._store.writer(self._staged)
        self._writer = await writer.__aenter__()
        try:
            if not self._fresh:
                await self._refresh()
        except BaseException:
            await self._let_go()
            raise
        hashes = self._context.backend.hashes
        self._hash = hashes.take(self.uuid, offset=self._offset, algorithm=self._row.algorithm)
        return self._writer

    async def _refresh(self) -> None:
        row = await self.database.read(uploads.find_upload, self._context.name, self.uuid)
        if row is None:
            raise self._gone()
        if row.version != self._row.version:
            raise UploadRangeError(
                f"Another request wrote to this upload, which stands at {row.offset_bytes} bytes now",
                offset=row.offset_bytes,
            )

    def _gone(self) -> UploadUnknownError:
        return UploadUnknownError(f"The upload {self.uuid} was ended by another request")

    async def _store_batch(self) -> None:
        """Begins to store the batch, when the one before it is done."""
        await self._stored()
        batch, self._batch = self._batch, bytearray()
        self._storing = asyncio.create_task(self._store_and_hash(batch))

    async def _stored(self) -> None:
        storing, self._storing = self._storing, None
        if storing is not None:
            await storing

    async def _store_and_hash(self, batch: bytearray) -> None:
        if self._writer is None:
            raise AssertionError("a batch without a writer")
        if self._hash is None:
            await self._writer.write(batch)
        elif len(batch) <= _INLINE_HASH:
            self._hash.update(batch)
            await self._writer.write(batch)
        else:
            hashing = asyncio.get_running_loop().run_in_executor(None, self._hash.update, batch)
            await asyncio.gather(self._writer.write(batch), hashing)

    async def _flush(self) -> None:
        """Everything written so far is durable when this returns."""
        if self._writer is None:
            return
        await self._stored()
        if self._batch:
            batch, self._batch = self._batch, bytearray()
            await self._store_and_hash(batch)
        self._staged = await self._writer.flush()

    async def _let_go(self) -> None:
        writer, self._writer = self._writer, None
        if self._storing is not None:
            self._storing.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._storing
            self._storing = None
        if writer is not None:
            await writer.__aexit__(None, None, None)

    # -- ends ---------------------------------------------------------------------------------------------------------

    async def finish(self, digest: Digest) -> StoredLayer:
        """Ends the session: the content becomes a blob of the repository, if it has this digest."""
        writer = await self._open()
        await self._flush()
        found = await self._content_digest(digest.algorithm)
        if found != digest:
            await self._forget_unacknowledged()
            raise DigestInvalidError(
                f"The content has the digest {found}, not {digest}",
                detail={"digest": str(digest), "content": str(found)},
            )
        self._staged = await writer.complete()
        blob = await self._finish(digest)
        self._ended = True
        await self._let_go()
        if blob.store_key != self._staged.key:
            blob = await self._settle_duplicate(blob)
        return StoredLayer(self._context.backend, blob)

    async def _content_digest(self, algorithm: str) -> Digest:
        running = self._hash
        if running is None or running.name != algorithm:
            running = new_hash(algorithm)
            async for piece in self._store.staged_stream(self._staged):
                await asyncio.to_thread(running.update, piece)
        return Digest.from_hash(running)

    async def _forget_unacknowledged(self) -> None:
        """What came with the request that failed is not part of the session."""
        await self._let_go()
        self._offset = self._row.offset_bytes
        self._staged = replace(self._staged, length=self._offset)
        self._hash = None

    @transactional
    async def _finish(self, tx: Transaction, digest: Digest) -> BlobRow:
        context, repository = self._context, self._repository
        if not await uploads.delete_upload(tx, self._row):
            raise self._gone()
        blob = await layers.insert_blob(
            tx, repository.tenant_id, digest, length=self._staged.length, store_key=self._staged.key
        )
        layers.insert_layer(tx, repository, digest)
        context.audit(tx, repository.tenant_id, "blob.put", digest=digest)
        return blob

    async def _settle_duplicate(self, blob: BlobRow) -> BlobRow:
        """The tenant had the content already: ours goes, unless the store has lost the other's bytes."""
        if await self._store.length(blob.store_key) == blob.length:
            await self._store.abort(self._staged)
            return blob
        healed = await self._replace_bytes(blob)
        if healed is None:
            await self._store.abort(self._staged)
        return healed or blob

    @transactional
    async def _replace_bytes(self, tx: Transaction, blob: BlobRow) -> BlobRow | None:
        return await layers.replace_bytes(
            tx, self._row.tenant_id, blob.digest, lost_key=blob.store_key, store_key=self._staged.key
        )

    async def cancel(self) -> None:
        """Ends the session and forgets its bytes."""
        await self._let_go()
        self._ended = True
        await self._cancel()
        await self._store.abort(self._staged)

    @transactional
    async def _cancel(self, tx: Transaction) -> None:
        if not await uploads.delete_upload(tx, self._row):
            raise self._gone()
        self._context.audit(tx, self._row.tenant_id, "upload.cancel", references=[str(self.uuid)])

    async def close(self) -> None:
        """Remembers what was written."""
        try:
            if not self._ended:
                await self._flush()
                await self._remember()
        finally:
            await self._let_go()

    async def _remember(self) -> None:
        if self._ended or self._staged.length == self._row.offset_bytes:
            return
        version = await self._advance()
        if version is None:
            raise UploadRangeError(
                "Another request wrote to this upload meanwhile: ask for its state", offset=self._row.offset_bytes
            )
        self._row = self._row._replace(version=version, offset_bytes=self._staged.length)
        if self._hash is not None:
            self._context.backend.hashes.keep(self.uuid, self._hash, offset=self._staged.length)

    @transactional
    async def _advance(self, tx: Transaction) -> int | None:
        return await uploads.advance_upload(
            tx,
            self._row,
            offset_bytes=self._staged.length,
            store_key=self._staged.key,
            store_state=self._staged.state,
            lifetime=self._context.backend.upload_lifetime,
        )

    @property
    def _repository(self) -> RepositoryRow:
        return RepositoryRow(self._row.tenant_id, self._row.repository_id, sparse=False)

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it; after an error too, so that what came before it is kept."""
        await self.close()
