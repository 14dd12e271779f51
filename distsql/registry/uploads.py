"""Upload sessions: bytes that arrive in any number of requests, at any of the processes."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import AsyncIterator
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self
from uuid import UUID

from distsql.bytestore.contract import ByteStore, Staged
from distsql.errors import (
    BytesMissingError,
    DigestInvalidError,
    DistsqlError,
    StoreUnavailableError,
    UploadRangeError,
    UploadUnknownError,
)
from distsql.oci.digest import Digest, new_hash
from distsql.registry.batches import BatchedWriter
from distsql.registry.context import RepositoryContext
from distsql.registry.stored_layer import StoredLayer
from distsql.sql import layers, upload_expiry, uploads
from distsql.sql.database import TenantDatabase, transactional
from distsql.sql.layers import BlobRow
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from distsql.sql.uploads import UploadRow
from distsql.values import position

if TYPE_CHECKING:
    from hashlib import _Hash

# A client may wait between a request's head and its body.
_RECENT_S: Final = 1


class Upload:
    """`distsql.contract.LayerUpload` over the catalogue and a byte store.

    ``_row`` is the session as the catalogue remembers it. What was written since is in ``_content``, which also shuts
    other writers out; when something fails, it is dropped, and the session stands where the row says.
    """

    def __init__(
        self, context: RepositoryContext, row: UploadRow, store: ByteStore, *, begun_here: bool = False
    ) -> None:
        self._context = context
        self._row = row
        self._store = store
        self._begun_here = begun_here  # nobody else can know of it yet
        self._read_at = -math.inf if begun_here else time.monotonic()  # what the row says of switches too
        self._offset = row.offset_bytes
        self._content: BatchedWriter | None = None

    @property
    def database(self) -> TenantDatabase:
        """The catalogue, as the repository's tenant sees it."""
        return self._context.database

    @property
    def uuid(self) -> UUID:
        """The session's name, which is also its secret."""
        return self._row.uuid

    @property
    def started_at(self) -> datetime:
        """When the session began."""
        return self._row.started_at

    @property
    def minimum_chunk(self) -> int:
        """What the store wants a request to add at least."""
        return self._store.minimum_chunk

    @property
    def expires_at(self) -> datetime:
        """When the session is forgotten unless something is written to it."""
        return self._row.expires_at

    def tell(self) -> int:
        """Bytes so far."""
        return self._offset

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """An upload only grows at its end: any other position is `UploadRangeError`."""
        wanted = position(offset, whence, current=self._offset, end=self._offset)
        if wanted != self._offset:
            raise UploadRangeError(
                f"The upload stands at {self._offset} bytes, not at {wanted}: go on from there", offset=self._offset
            )
        return self._offset

    # -- bytes --------------------------------------------------------------------------------------------------------

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Adds the data at the end."""
        content = self._content or await self._open()
        if content.checkpoint_due:
            async with self._set_back_after(Exception):
                await self._advance_to(await content.checkpoint())
        length = len(data) if isinstance(data, bytes) else memoryview(data).nbytes
        self._offset += length
        try:
            await content.write(data)
        except Exception as error:  # cancelled, it has taken the data
            await self._set_back(error)
            raise
        return length

    async def read_from(self, source: AsyncIterator[bytes]) -> int:
        """Adds everything that the source gives."""
        before = self._offset
        async for data in source:
            await self.write(data)
        return self._offset - before

    async def close(self) -> None:
        """Remembers what was written."""
        if self._content is None:
            return
        async with self._set_back_after(BaseException):
            await self._remember(self._content)
        await self._let_go()

    async def _open(self) -> BatchedWriter:
        """Shuts other writers out, and makes sure that none was faster since the session was read."""
        if self._content is not None:
            return self._content
        if not self._store.exclusive:
            await self._claim()
        content = BatchedWriter(self._store.writer(self._staged), self._context.backend.batches)
        async with self._set_back_after(BaseException):
            await content.open()
            self._content = content
            await self._check_row(content)
        content.hash = self._context.backend.hashes.take(self.uuid, offset=self._offset, algorithm=self._row.algorithm)
        return content

    async def _claim(self) -> None:
        """Outdates what other writers hold, where the store can't shut them out itself."""
        claimed = await self._store.claim(self._staged)
        if self._begun_here:
            self._row = self._row._replace(store_state=claimed.state)
        else:
            await self._advance_to(claimed)
        self._begun_here = False

    async def _check_row(self, content: BatchedWriter) -> None:
        """Makes sure that the session stands where the row says, and may be written to.

        The row itself tells, once, if it was read just now and the store shows that nobody has written since.
        """
        row, is_recent = self._row, time.monotonic() - self._read_at < _RECENT_S
        self._read_at = -math.inf
        if is_recent and content.is_newest:
            self._context.check_writable(read_only=row.read_only, suspended=row.suspended)
        else:
            await self._check_newest()

    @property
    def _staged(self) -> Staged:
        return Staged(self._row.store_key, self._row.offset_bytes, self._row.store_state)

    async def _remember(self, content: BatchedWriter) -> None:
        staged = await content.flush()
        if staged.length == self._row.offset_bytes:
            return
        digest = None if content.hash is None else Digest.from_hash(content.hash)
        await self._advance_to(staged, digest)
        if content.hash is not None:
            self._context.backend.hashes.keep(self.uuid, content.hash, offset=staged.length)

    async def _advance_to(self, staged: Staged, digest: Digest | None = None) -> None:
        """Has the catalogue remember the value, if ours was the newest. Of the same bytes it knows the digest still."""
        if staged.length == self._row.offset_bytes:
            digest = self._row.digest_so_far
        version = await self._advance(staged, digest)
        if version is None:
            await self._check_newest()
            raise self._ended()
        self._row = self._row._replace(
            version=version,
            offset_bytes=staged.length,
            store_state=staged.state,
            digest=digest,
            digest_bytes=staged.length,
        )

    @transactional
    async def _advance(self, tx: Transaction, staged: Staged, digest: Digest | None) -> int | None:
        return await uploads.advance_upload(
            tx,
            self._row,
            offset_bytes=staged.length,
            store_key=staged.key,
            store_state=staged.state,
            digest=digest,
            lifetime=self._context.backend.upload_lifetime,
        )

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _set_back_after(self, kind: type[BaseException]) -> AsyncIterator[None]:
        """After such an error the session stands where the catalogue remembers it."""
        try:
            yield
        except kind as error:
            await self._set_back(error)
            raise

    async def _set_back(self, error: BaseException) -> None:
        await self._let_go()
        if isinstance(error, BytesMissingError):
            await self._check_newest()  # most likely it was ended by another request, and its bytes forgotten

    async def _let_go(self) -> None:
        """Lets other writers in. What is not remembered is forgotten."""
        content, self._content = self._content, None
        self._offset = self._row.offset_bytes
        if content is not None:
            await content.close()

    async def _check_newest(self) -> None:
        context = self._context
        row = await self.database.read(uploads.find_upload, context.name, self.uuid, uploader=context.uploader)
        if row is None:
            raise self._ended()
        self._context.check_writable(read_only=row.read_only, suspended=row.suspended)
        if row.version != self._row.version:
            raise UploadRangeError(
                f"Another request wrote to this upload, which stands at {row.offset_bytes} bytes now",
                offset=row.offset_bytes,
            )

    def _ended(self) -> UploadUnknownError:
        return UploadUnknownError(f"The upload {self.uuid} was ended by another request, or has expired")

    # -- ends ---------------------------------------------------------------------------------------------------------

    async def finish(self, digest: Digest) -> StoredLayer:
        """Ends the session: the content becomes a blob of the repository, if it has this digest."""
        content = await self._open()
        async with self._set_back_after(BaseException):
            await content.settle()
            _check_digest(await self._find_digest(content, digest.algorithm), digest)
            staged = await self._complete(content)
            blob = await self._finish(digest, staged)
        self._row = self._row._replace(offset_bytes=staged.length)
        await self._let_go()
        if blob.store_key != staged.key:
            blob = await self._settle_duplicate(blob, staged)
        if blob.store_key == staged.key:
            with contextlib.suppress(StoreUnavailableError):  # the blob is there
                await self._store.settle(staged)
        return StoredLayer(self._context.backend, blob)

    async def _find_digest(self, content: BatchedWriter, algorithm: str) -> Digest:
        """Of everything: from the hash that has run here, as another process told it, or from the bytes."""
        if content.hash is not None and content.hash.name == algorithm:
            return Digest.from_hash(content.hash)
        told = self._row.digest_so_far if self._offset == self._row.offset_bytes else None
        if told is not None and told.algorithm == algorithm:
            return told
        return Digest.from_hash(await self._hash_again(content, algorithm))

    async def _hash_again(self, content: BatchedWriter, algorithm: str) -> _Hash:
        """The hash of everything, some of which another process wrote, or with another algorithm."""
        hasher = new_hash(algorithm)
        # What an object store has of an unfinished object can't be read. Completed and wrong, it can be gone on with.
        staged = await (content.flush() if self._store.exclusive else self._complete(content))
        async for piece in self._store.staged_stream(staged):
            await asyncio.to_thread(hasher.update, piece)
        return hasher

    async def _complete(self, content: BatchedWriter) -> Staged:
        sealed = await content.seal()
        if sealed is not None:
            await self._advance_to(sealed)
        return await content.complete()

    @transactional
    async def _finish(self, tx: Transaction, digest: Digest, staged: Staged) -> BlobRow:
        row = self._row
        ended = uploads.delete_upload_later(tx, row)
        blob = await layers.insert_blob(tx, row.tenant_id, digest, length=staged.length, store_key=staged.key)
        if ended.row is None:
            raise self._ended()
        repository = RepositoryRow(row.tenant_id, row.repository_id, sparse=False)
        layers.insert_layer(tx, repository, digest, length=blob.length)
        self._context.audit(tx, row.tenant_id, "blob.put", digest=digest)
        layers.count_blob(tx, row.tenant_id, blob, store_key=staged.key)
        return blob

    async def _settle_duplicate(self, blob: BlobRow, staged: Staged) -> BlobRow:
        """The tenant had the content already: ours goes, unless the store has lost the other's bytes."""
        # Perhaps in another store: the tenant was given this one since.
        if await self._context.backend.store.length(blob.store_key) != blob.length:
            healed = await self._replace_bytes(blob, staged)
            if healed is not None:
                return healed
        await self._forget(self._staged)
        return blob

    @transactional
    async def _replace_bytes(self, tx: Transaction, blob: BlobRow, staged: Staged) -> BlobRow | None:
        return await layers.replace_bytes(
            tx, self._row.tenant_id, blob.digest, lost_key=blob.store_key, store_key=staged.key
        )

    async def cancel(self) -> None:
        """Ends the session and forgets its bytes."""
        self._context.check_writable(read_only=self._row.read_only, suspended=self._row.suspended)
        await self._let_go()
        await self._cancel()
        await self._forget(self._staged)

    @transactional
    async def _cancel(self, tx: Transaction) -> None:
        if not await uploads.delete_upload(tx, self._row):
            raise self._ended()
        self._context.audit(tx, self._row.tenant_id, "upload.cancel", references=[str(self.uuid)])

    async def _forget(self, staged: Staged) -> None:
        """Bytes that no row names any more. The catalogue has the last word: what is left is an orphan, and swept."""
        if self._context.backend.recovery_window:
            await self._condemn(staged)
            return
        with contextlib.suppress(StoreUnavailableError):
            await self._store.abort(staged)

    @transactional
    async def _condemn(self, tx: Transaction, staged: Staged) -> None:
        """A database that is restored to the time of the session finds what it had collected."""
        upload_expiry.condemn_upload(
            tx, self._row.tenant_id, store_key=staged.key, length=staged.length, store_state=staged.state
        )

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it; after an error too, so that what came before it is kept."""
        if error is None:
            await self.close()
        else:
            with contextlib.suppress(DistsqlError):  # the error that is on its way says more
                await self.close()


def _check_digest(found: Digest, digest: Digest) -> None:
    if found != digest:
        raise DigestInvalidError(
            f"The content has the digest {found}, not {digest}",
            detail={"digest": str(digest), "content": str(found)},
        )
