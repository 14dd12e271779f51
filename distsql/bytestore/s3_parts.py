"""The multipart upload that a writer adds to."""

from __future__ import annotations

import asyncio
from typing import Final

from distsql.bytestore.s3_bodies import Body
from distsql.bytestore.s3_client import S3Client
from distsql.bytestore.s3_layout import MAX_PARTS, PartSizes, new_object
from distsql.bytestore.s3_state import Parts, Piece, State
from distsql.errors import BytesMissingError, SizeInvalidError

# As much as one request copies inside the store; it takes five times as much.
_COPY_BYTES: Final = 1024**3


class PartUploader:
    """Parts on their way, under numbers that nobody else has."""

    def __init__(self, client: S3Client, sizes: PartSizes, state: State, *, stem: str) -> None:
        self._client = client
        self._sizes = sizes
        self._stem = stem
        self._parts = state.parts
        self._number, self._free = state.first, state.free
        self._sending: set[asyncio.Task[None]] = set()
        self._numbers: list[int] = []
        self._bytes = 0

    @property
    def any(self) -> bool:
        """Whether there is a multipart upload."""
        return self._parts is not None

    @property
    def added(self) -> bool:
        """Whether parts were added."""
        return bool(self._numbers)

    @property
    def next_size(self) -> int:
        """How large the next part is."""
        return self._sizes.of(self._number)

    @property
    def numbers_left(self) -> int:
        """How many parts may be added."""
        return self._free - self._number

    async def add(self, body: Body) -> None:
        """Uploads it in the background, when few enough others are; their errors come with it."""
        number, parts = self._take_number(), await self._begin()
        sending = asyncio.create_task(self._send(parts, number, body))
        sending.add_done_callback(_look_at)
        self._sending.add(sending)
        self._numbers.append(number)
        while len(self._sending) > self._sizes.in_flight(self._sizes.of(number)):
            await self._some()

    async def copy(self, source: Piece, start: int, stop: int) -> None:
        """A part whose bytes are in the store already."""
        number, parts = self._take_number(), await self._begin()
        await self._client.call(
            "upload_part_copy",
            parts.object,
            UploadId=parts.upload,
            PartNumber=number,
            CopySource=self._client.source(source.object),
            CopySourceRange=f"bytes={start}-{stop - 1}",
        )
        self._numbers.append(number)
        self._bytes += stop - start

    async def settle(self) -> None:
        """Everything that was added is durable when this returns."""
        while self._sending:
            await self._some()

    async def cancel(self) -> None:
        """Waits until nothing is on its way."""
        sending, self._sending = self._sending, set()
        for task in sending:
            task.cancel()
        if sending:
            await asyncio.wait(sending)

    def remembered(self, state: State) -> State:
        """The state with what was added; numbers that were not used are free."""
        parts = self._parts.adding(self._numbers, self._bytes) if self._parts and self._numbers else self._parts
        return State(
            parts=parts,
            tail=state.tail,
            first=self._number,
            free=self._number,
            opened=state.opened,
            littered=state.littered,
            stale=state.stale,
        )

    def reserve(self, state: State) -> None:
        """Goes on behind a state that the catalogue remembers, with the numbers that it reserves."""
        self._parts, self._number, self._free = state.parts, state.first, state.free
        self._numbers, self._bytes = [], 0

    def _take_number(self) -> int:
        number = self._number
        if number > MAX_PARTS or number >= self._free:
            raise SizeInvalidError(f"content of {self._bytes} bytes more has too many parts for an object store")
        self._number += 1
        return number

    async def _begin(self) -> Parts:
        if self._parts is None:
            key = new_object(self._stem)
            created = await self._client.call("create_multipart_upload", key, ContentType="application/octet-stream")
            self._parts = Parts(key, created["UploadId"], (), 0)
        return self._parts

    async def _send(self, parts: Parts, number: int, body: Body) -> None:
        try:
            await self._client.call("upload_part", parts.object, UploadId=parts.upload, PartNumber=number, Body=body)
            self._bytes += len(body)
        finally:
            body.release()

    async def _some(self) -> None:
        done, self._sending = await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


def _look_at(task: asyncio.Task[None]) -> None:
    """Whoever sent it may have gone, or fail of another one first: then nobody else looks at its error."""
    if not task.cancelled():
        task.exception()


async def copy_parts(parts: PartUploader, source: Piece) -> int:
    """Begins with an object that is there already, as far as it makes whole parts; gives how far that is."""
    step = max(_COPY_BYTES, -(-source.bytes // 64))
    done = 0
    while source.bytes - done >= (least := parts.next_size):
        # What is left behind is less than a part, and becomes the beginning of the next one.
        size = min(step, source.bytes - done)
        size -= size % least if size < step else 0
        await parts.copy(source, done, done + size)
        done += size
    return done


async def complete_parts(client: S3Client, parts: Parts) -> str:
    """Makes the object readable from these parts, without a copy, and gives its key. Again is harmless."""
    try:
        listed = await _listed(client, parts)
        if sum(size for _, size in listed.values()) != parts.bytes:
            raise client.missing(parts.object)
        await client.call(
            "complete_multipart_upload",
            parts.object,
            UploadId=parts.upload,
            MultipartUpload={"Parts": [{"PartNumber": number, "ETag": etag} for number, (etag, _) in listed.items()]},
        )
    except BytesMissingError:
        if await client.length(parts.object) != parts.bytes:  # unless it was completed before
            raise
    return parts.object


async def _listed(client: S3Client, parts: Parts) -> dict[int, tuple[str, int]]:
    """ETag and size by number. A part that was sent twice, as its answer was late, some stores list twice."""
    return {
        found["PartNumber"]: (found["ETag"], found["Size"])
        async for found in client.parts(parts.object, parts.upload)
        if parts.has(found["PartNumber"])
    }
