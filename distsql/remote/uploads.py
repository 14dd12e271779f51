"""Upload sessions of a registry: what is written is sent chunk by chunk, the last one with the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self
from uuid import UUID

import httpx

from distsql.errors import DistsqlError, RegistryError, UnsupportedError, UploadRangeError, UploadUnknownError
from distsql.oci.digest import Digest
from distsql.remote.connection import Address, Answer
from distsql.remote.errors import end_of
from distsql.values import position

if TYPE_CHECKING:
    from distsql.remote.layers import Layers
    from distsql.remote.remote_layer import RemoteLayer

CHUNK_BYTES: Final = 8 * 1024**2
_SLICE_BYTES: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class Session:
    """What the registry tells of a session when it is opened. Only distsql tells when it began and when it ends."""

    uuid: UUID
    offset: int
    minimum_chunk: int
    started_at: datetime | None = None
    expires_at: datetime | None = None


class Upload:
    """`distsql.contract.LayerUpload` over HTTP.

    ``_pending`` is what was written and not sent yet, at most a chunk. When sending fails it is dropped: the session
    stands where the registry last said. It may have more when its answer was lost; the next chunk then is
    `UploadRangeError`, and resuming the session tells where it stands.
    """

    def __init__(self, layers: Layers, address: Address, location: httpx.URL, session: Session) -> None:
        self._layers = layers
        self._address = address
        self._location = location
        self._session = session
        self._offset = session.offset
        self._pending = bytearray()
        self._ended = False

    @classmethod
    async def open(cls, layers: Layers, address: Address, answer: Answer) -> Upload:
        """The session that an answer is about."""
        return cls(layers, address, location_of(answer), await _session(address, answer))

    @property
    def uuid(self) -> UUID:
        """The session's name, which is also its secret."""
        return self._session.uuid

    @property
    def started_at(self) -> datetime:
        """When the session began; `UnsupportedError` when the registry is no distsql."""
        return _known(self._session.started_at)

    @property
    def expires_at(self) -> datetime:
        """When the session is forgotten unless something is written to it; `UnsupportedError` likewise."""
        return _known(self._session.expires_at)

    @property
    def minimum_chunk(self) -> int:
        """What the registry wants a request to add at least."""
        return self._session.minimum_chunk

    def tell(self) -> int:
        """Bytes so far."""
        return self._offset + len(self._pending)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """An upload only grows at its end: any other position is `UploadRangeError`."""
        end = self.tell()
        wanted = position(offset, whence, current=end, end=end)
        if wanted != end:
            raise UploadRangeError(f"The upload stands at {end} bytes, not at {wanted}: go on from there", offset=end)
        return end

    # -- bytes --------------------------------------------------------------------------------------------------------

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Adds the data at the end; sent when it fills a chunk."""
        self._check_live()
        self._pending += data
        if len(self._pending) >= max(CHUNK_BYTES, self.minimum_chunk):
            await self.close()
        return memoryview(data).nbytes

    async def read_from(self, source: AsyncIterator[bytes]) -> int:
        """Adds everything that the source gives."""
        length = 0
        async for data in source:
            length += await self.write(data)
        return length

    async def close(self) -> None:
        """Sends what was written."""
        if self._pending:
            answer = await self._send("PATCH", self._location)
            self._location = location_of(answer)

    async def _send(self, method: str, url: httpx.URL) -> Answer:
        """Sends what is pending, and says where it belongs."""
        content, self._pending = self._pending, bytearray()
        headers = {"content-type": "application/octet-stream", "content-length": str(len(content))}
        if content:
            headers["content-range"] = f"{self._offset}-{self._offset + len(content) - 1}"
        length = len(content)
        try:
            answer = await self._address.connection.request(method, str(url), headers=headers, content=_Slices(content))
        finally:
            content.clear()  # the client's request and answer know each other: they go with a later garbage collection
        self._offset += length
        return answer

    # -- ends ---------------------------------------------------------------------------------------------------------

    async def finish(self, digest: Digest) -> RemoteLayer:
        """Ends the session: the content becomes a blob of the repository, if it has this digest."""
        self._check_live()
        await self._send("PUT", self._location.copy_merge_params({"digest": str(digest)}))
        self._ended = True
        return await self._layers.fetch(digest)

    async def cancel(self) -> None:
        """Ends the session and forgets its bytes."""
        self._check_live()
        self._pending.clear()
        await self._address.connection.request("DELETE", str(self._location))
        self._ended = True

    def _check_live(self) -> None:
        if self._ended:
            raise UploadUnknownError(f"The upload {self.uuid} is over")

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


class _Slices:
    """A chunk on its way, slice by slice: sent whole, it would be copied by each layer of the client.

    It may be sent again, which an authentication that is asked for in between needs.
    """

    def __init__(self, content: bytearray) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), _SLICE_BYTES):
            yield bytes(self._content[start : start + _SLICE_BYTES])


def _known(instant: datetime | None) -> datetime:
    if instant is None:
        raise UnsupportedError("This registry is no distsql: it doesn't say how long an upload session lives")
    return instant


def location_of(answer: Answer) -> httpx.URL:
    """Where the session goes on, which may change with each answer ("Pushing a blob in chunks")."""
    location = answer.headers.get("location")
    return answer.url.join(location) if location else answer.url


async def _session(address: Address, answer: Answer) -> Session:
    told = answer.headers.get("docker-upload-uuid") or location_of(answer).path.rpartition("/")[2]
    try:
        uuid, minimum = UUID(told), int(answer.headers.get("oci-chunk-min-length", "0"))
    except ValueError:
        raise RegistryError(f"{answer.url}: the registry's upload session has no UUID, or a bad chunk size") from None
    if not await address.connection.extended():
        return Session(uuid, end_of(answer.headers.get("range", "")), minimum)
    known = await address.connection.get(await address.extension("uploads", str(uuid)))
    with known.understood() as told:
        started_at, expires_at = (datetime.fromisoformat(told[name]) for name in ("started_at", "expires_at"))
        return Session(uuid, int(told["offset"]), minimum, started_at, expires_at)
