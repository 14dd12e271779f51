"""Bytes in an object store that speaks S3, shared by any number of processes on any number of machines.

There are no locks: who may write is decided by the catalogue, whose row each writer claims first (`S3Store.claim`).
Nothing is ever overwritten, and what two writers make have different names, so that one who comes late harms nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Final

from distsql.bytestore import s3_reader as reader
from distsql.bytestore.contract import Staged, StoredObject
from distsql.bytestore.s3_address import S3Address
from distsql.bytestore.s3_client import S3Client
from distsql.bytestore.s3_layout import PART_SIZES, PartSizes, is_object, is_tail, new_object, stem_of
from distsql.bytestore.s3_state import State
from distsql.bytestore.s3_writer import S3Writer
from distsql.bytestore.stems import new_stem
from distsql.errors import BytesMissingError, UploadBusyError

_PROBE: Final = b"distsql"


class S3Store:
    """A `ByteStore` in a bucket, below ``PREFIX/objects/``."""

    exclusive = False

    def __init__(self, address: S3Address, *, sizes: PartSizes = PART_SIZES) -> None:
        self._address = address
        self._sizes = sizes
        self._client = S3Client(address)
        self._busy: set[str] = set()

    @property
    def url(self) -> str:
        return self._address.url

    @property
    def minimum_chunk(self) -> int:
        return self._sizes.smallest

    async def open(self) -> None:
        await self._client.open()
        # An object goes all the way: we may write, read and delete.
        key = new_object(new_stem())
        await self._client.put(key, _PROBE)
        try:
            await reader.read(self._client, key, 0, len(_PROBE))
        finally:
            await self._client.delete([key])

    async def close(self) -> None:
        await self._client.close()

    # -- writing --------------------------------------------------------------------------------------------------

    async def begin(self) -> Staged:
        return Staged(new_stem())

    async def claim(self, staged: Staged) -> Staged:
        if stem_of(staged.key) in self._busy:
            raise UploadBusyError("another request is writing to this upload right now: try again when it is done")
        return Staged(staged.key, staged.length, State.from_json(staged.state).claimed().to_json())

    def writer(self, staged: Staged) -> S3Writer:
        return S3Writer(self._client, self._sizes, staged, self._busy)

    async def staged_stream(self, staged: Staged) -> AsyncIterator[bytes]:
        state = State.from_json(staged.state)
        if state.parts is not None or state.length != staged.length:
            raise BytesMissingError(f"the parts of {staged.key[:64]} can't be read before they are completed")
        if state.tail is not None:
            async for piece in reader.stream(self._client, state.tail.object, 0, staged.length):
                yield piece

    async def abort(self, staged: Staged) -> None:
        if stem_of(staged.key) is None:
            return
        await self._remove(staged.key)

    async def settle(self, staged: Staged) -> None:
        state, stem = State.from_json(staged.state), stem_of(staged.key)
        if state.littered and stem is not None:
            await self._remove(stem, spared=staged.key)
        elif state.stale:
            await self._client.delete(state.stale)

    async def _remove(self, key: str, *, spared: str | None = None) -> None:
        """Everything whose key begins so: of one upload, when it is a stem."""
        async for found in self._client.uploads(key):
            try:
                await self._client.call("abort_multipart_upload", found["Key"], UploadId=found["UploadId"])
            except BytesMissingError:
                continue  # somebody else was faster
        keys = [found["Key"] async for found in self._client.objects(key)]
        if keys := [each for each in keys if each != spared]:
            await self._client.delete(keys)

    # -- reading --------------------------------------------------------------------------------------------------

    async def length(self, key: str) -> int | None:
        return await self._client.length(key) if is_object(key) else None

    async def read(self, key: str, start: int, stop: int) -> bytes:
        self._check_key(key)
        return await reader.read(self._client, key, start, stop)

    async def stream(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        self._check_key(key)
        async for piece in reader.stream(self._client, key, start, stop):
            yield piece

    def local_path(self, key: str) -> Path | None:  # noqa: ARG002 - there are no files
        return None

    async def redirect_url(self, key: str, *, expires_s: int) -> str | None:
        return await self._client.presign(key, expires_s=expires_s) if is_object(key) else None

    # -- tending --------------------------------------------------------------------------------------------------

    async def delete(self, key: str) -> None:
        if is_object(key):
            await self._client.delete([key])

    async def walk(self) -> AsyncIterator[StoredObject]:
        async for upload in self._client.uploads():
            if is_object(upload["Key"]):
                length, modified_at = await self._parts_of(upload["Key"], upload["UploadId"], upload["Initiated"])
                yield _stored(upload["Key"], length, modified_at, complete=False)
        async for found in self._client.objects():
            if is_object(found["Key"]) or is_tail(found["Key"]):
                complete = is_object(found["Key"])
                yield _stored(found["Key"], found["Size"], found["LastModified"], complete=complete)

    async def _parts_of(self, key: str, upload: str, initiated: datetime) -> tuple[int, datetime]:
        length, modified_at = 0, initiated
        try:
            async for part in self._client.parts(key, upload):
                length += part["Size"]
                modified_at = max(modified_at, part["LastModified"])
        except BytesMissingError:
            pass  # completed or aborted just now
        return length, modified_at

    def _check_key(self, key: str) -> None:
        if not is_object(key):
            raise self._client.missing(key)


def _stored(key: str, length: int, modified_at: datetime, *, complete: bool) -> StoredObject:
    return StoredObject(key, length, modified_at, complete, staged_key=stem_of(key) or key)
