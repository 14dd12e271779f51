"""The blobs of one repository of a registry: reading, mounting, deleting. Uploading is next door."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from uuid import UUID

from distsql.errors import BlobUnknownError, RegistryError
from distsql.oci.digest import SHA256, Digest, new_hash
from distsql.oci.names import RepositoryName
from distsql.remote.connection import Address, Answer
from distsql.remote.remote_layer import RemoteLayer
from distsql.remote.uploads import Upload, location_of


class Layers:
    """`distsql.contract.LayerService` over HTTP."""

    __slots__ = ("_address",)

    def __init__(self, address: Address) -> None:
        self._address = address

    async def exists(self, digest: Digest) -> bool:
        """Whether the repository has the blob; distsql's then keeps it for the grace from now on."""
        return await self._address.connection.head(self._path(digest)) is not None

    async def fetch(self, digest: Digest, *, promised: bool = False) -> RemoteLayer:
        """The blob, ready to be read; ``promised`` if a manifest may refer to it for the grace from now on."""
        connection = self._address.connection
        if promised and not await self.exists(digest):
            raise BlobUnknownError(f"The repository has no blob {digest}", detail={"digest": str(digest)})
        if await connection.extended():
            return self._described(digest, await connection.get(await self._address.extension("blobs", str(digest))))
        headers = await connection.head(self._path(digest))
        if headers is None:  # GET tells whether it is the blob or the repository that isn't there
            answer = await connection.open(self._path(digest))
            await answer.aclose()
            headers = answer.headers
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            raise RegistryError(f"The registry doesn't say how long {digest} is")
        return RemoteLayer(connection, self._path(digest), digest, int(length))

    def _described(self, digest: Digest, answer: Answer) -> RemoteLayer:
        with answer.understood() as told:
            length, created_at = int(told["length"]), datetime.fromisoformat(told["created_at"])
        return RemoteLayer(self._address.connection, self._path(digest), digest, length, created_at)

    def _path(self, digest: Digest) -> str:
        return self._address.path("blobs", str(digest))

    async def upload(self, algorithm: str = SHA256) -> Upload:
        """Begins an upload session."""
        new_hash(algorithm)
        params = {"digest-algorithm": algorithm} if algorithm != SHA256 else None
        answer = await self._address.connection.request("POST", self._path_of_uploads(), params=params)
        return await Upload.open(self, self._address, answer)

    async def resume(self, uuid: UUID) -> Upload:
        """Goes on with a session that any process began."""
        answer = await self._address.connection.get(self._path_of_uploads(str(uuid)))
        return await Upload.open(self, self._address, answer)

    def _path_of_uploads(self, uuid: str = "") -> str:
        return self._address.path("blobs", "uploads", uuid)

    async def mount(self, digest: Digest, source: str | None = None) -> RemoteLayer:
        """Makes a blob of another repository of the registry appear in this one."""
        if source is not None:
            RepositoryName.parse(source)
        connection, origin = self._address.connection, {} if source is None else {"from": source}
        if await connection.extended():
            path = await self._address.extension("blobs", str(digest))
            return self._described(digest, await connection.request("PUT", path, params=origin))
        answer = await connection.request("POST", self._path_of_uploads(), params={"mount": str(digest), **origin})
        if not await self.exists(digest):
            # What can't be mounted is an upload session, which nobody wants.
            with suppress(RegistryError):
                await connection.request("DELETE", str(location_of(answer)))
            raise BlobUnknownError(f"The registry has no blob {digest} to mount", detail={"digest": str(digest)})
        return await self.fetch(digest)

    async def delete(self, digest: Digest, *, force: bool = False) -> None:
        """Takes the blob out of this repository."""
        params = {"force": "true"} if force else None
        await self._address.connection.request("DELETE", self._path(digest), params=params)
