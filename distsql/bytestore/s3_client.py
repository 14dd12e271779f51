"""Calls to an object store: in threads, bounded in time and number, with credentials that are read again."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError
from botocore.loaders import create_loader

from distsql.bytestore.s3_address import S3Address
from distsql.bytestore.s3_bodies import Body
from distsql.bytestore.s3_errors import FAILURES, SilentStoreError, is_refusal, meaning_of
from distsql.bytestore.threads import Threads
from distsql.errors import BytesMissingError, StoreUnavailableError

T = TypeVar("T")

_THREADS: Final = 32
_HASHING: Final = 4
_CONNECT_S: Final = 5
_ATTEMPTS: Final = 4
_SILENCES: Final = 2
_RENEWAL_S: Final = 1.0
_LOOK_S: Final = 30.0
_DELETES: Final = 1000  # as many as one request takes


@functools.cache
def _loader() -> Any:  # noqa: ANN401 - botocore's
    """Reads the service's description once: it takes longer than anything else here."""
    return create_loader()


class S3Client:
    """The operations of one bucket, below one prefix. Keys are without the prefix; errors have their meaning."""

    def __init__(self, address: S3Address) -> None:
        self.address = address
        self._place = f"s3://{address.bucket}/{address.prefix}"
        self._folder = f"{address.prefix}/objects/" if address.prefix else "objects/"
        self._threads = Threads(_THREADS, name="distsql-s3")
        self.hashing = Threads(_HASHING, name="distsql-s3-hash")  # its own: a slow store keeps the others busy
        self._slots = asyncio.Semaphore(_THREADS)
        self._renewal = threading.Lock()
        self._renewed_at = float("-inf")
        self._looked_at = float("-inf")
        self._credentials: object = None
        self._waited = threading.local()  # how often for nothing, in the call of each thread
        self._clients: tuple[Any, Any] | None = None  # boto3's: for calls, and for addresses that clients are given

    async def open(self) -> None:
        """Looks for credentials. Nothing is sent yet."""
        await self._run(self._open, key="")

    async def close(self) -> None:
        """Lets go of connections."""
        await self._threads.close()
        await self.hashing.close()
        for client in self._clients or ():
            client.close()
        self._clients = None

    # -- one request --------------------------------------------------------------------------------------------------

    async def call(self, operation: str, key: str, **arguments: object) -> dict[str, Any]:
        """What the operation gives for an object."""
        return await self._run(partial(self._call, operation, Key=self._folder + key, **arguments), key=key)

    async def run(self, work: Callable[[], T], *, key: str) -> T:
        """The result of something that blocks on the store."""
        return await self._run(work, key=key)

    async def length(self, key: str) -> int | None:
        """The object's length in bytes, None when there is none."""
        try:
            found = await self.call("head_object", key)
        except BytesMissingError:
            # An answer to HEAD doesn't say whether the bucket is there. One that is gone has lost nothing.
            await self._run(partial(self._call, "list_objects_v2", MaxKeys=1, Prefix=self._folder), key=key)
            return None
        length: int = found["ContentLength"]
        return length

    async def put(self, key: str, body: bytes | Body) -> None:
        """A whole object."""
        await self.call("put_object", key, Body=body, ContentType="application/octet-stream")

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; those that aren't there are no error."""
        if len(keys) == 1:
            await self.call("delete_object", keys[0])
            return
        for first in range(0, len(keys), _DELETES):
            batch = [{"Key": self._folder + key} for key in keys[first : first + _DELETES]]
            work = partial(self._call, "delete_objects", Delete={"Objects": batch, "Quiet": True})
            done = await self._run(work, key=keys[first])
            if failed := done.get("Errors"):
                raise StoreUnavailableError(f"{self._place} did not delete: {failed[0].get('Code')}", retry_after=5)

    async def presign(self, key: str, *, expires_s: int) -> str:
        """An address that gives the object to whoever has it, for a time."""
        parameters = {
            "Bucket": self.address.bucket,
            "Key": self._folder + key,
            # What a browser gets is a file to keep, whatever the store believes that it is.
            "ResponseContentType": "application/octet-stream",
            "ResponseContentDisposition": "attachment",
        }

        def sign() -> str:
            self._look()
            client = self._current()[1]
            url: str = client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=expires_s)
            return url

        return await self._run(sign, key=key)

    # -- pages --------------------------------------------------------------------------------------------------------

    async def objects(self, prefix: str = "") -> AsyncIterator[dict[str, Any]]:
        """Every object whose key begins so, as ``Key``, ``Size`` and ``LastModified``."""
        more: dict[str, object] = {}
        while True:
            work = partial(self._call, "list_objects_v2", Prefix=self._folder + prefix, **more)
            page = await self._run(work, key=prefix)
            for found in page.get("Contents", ()):
                yield {**found, "Key": found["Key"].removeprefix(self._folder)}
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def uploads(self, prefix: str = "") -> AsyncIterator[dict[str, Any]]:
        """Every multipart upload whose key begins so, as ``Key``, ``UploadId`` and ``Initiated``."""
        more: dict[str, object] = {}
        while True:
            work = partial(self._call, "list_multipart_uploads", Prefix=self._folder + prefix, **more)
            page = await self._run(work, key=prefix)
            for found in page.get("Uploads", ()):
                yield {**found, "Key": found["Key"].removeprefix(self._folder)}
            if not page.get("IsTruncated"):
                return
            # Some servers tell where the next page begins by the upload alone.
            markers = {"KeyMarker": page.get("NextKeyMarker"), "UploadIdMarker": page.get("NextUploadIdMarker")}
            more = {name: value for name, value in markers.items() if value}

    async def parts(self, key: str, upload: str) -> AsyncIterator[dict[str, Any]]:
        """The parts of a multipart upload, as ``PartNumber``, ``ETag``, ``Size`` and ``LastModified``."""
        marker = 0
        while True:
            page = await self.call("list_parts", key, UploadId=upload, PartNumberMarker=marker)
            for found in page.get("Parts", ()):
                yield found
            if not page.get("IsTruncated"):
                return
            marker = int(page["NextPartNumberMarker"])

    def source(self, key: str) -> dict[str, str]:
        """The object, as something to copy from."""
        return {"Bucket": self.address.bucket, "Key": self._folder + key}

    def missing(self, key: str) -> BytesMissingError:
        """What to raise for an object that isn't there, or not whole."""
        return BytesMissingError(f"{self._place} has no object {key[:64]!r}, or not all of its bytes")

    # -- in threads ---------------------------------------------------------------------------------------------------

    async def _run(self, work: Callable[[], T], *, key: str) -> T:
        """In a thread, when one is free: a store that answers slowly keeps all of them busy, and who waits is told."""
        try:
            async with asyncio.timeout(self.address.timeout_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise StoreUnavailableError(f"{self._place} is too slow: too many wait for it", retry_after=5) from error
        try:
            return await self._threads.run(work)
        except FAILURES as error:
            raise meaning_of(error, store=self._place, key=key) from None  # its text may hold an address with a secret
        finally:
            self._slots.release()

    def _call(self, operation: str, **arguments: object) -> dict[str, Any]:
        clients = self._current()
        try:
            return self._attempt(clients[0], operation, arguments)
        except FAILURES as error:
            if not is_refusal(error) or not self._renew(clients):
                raise
        return self._attempt(self._current()[0], operation, arguments)

    def _attempt(self, client: Any, operation: str, arguments: dict[str, object]) -> dict[str, Any]:  # noqa: ANN401
        self._waited.times = 0
        if isinstance(body := arguments.get("Body"), Body):
            body.seek(0)  # an earlier attempt, whose credentials were refused, has read it
        found: dict[str, Any] = getattr(client, operation)(Bucket=self.address.bucket, **arguments)
        return found

    def _after_attempt(self, caught_exception: Exception | None = None, **_: object) -> None:
        if isinstance(caught_exception, ReadTimeoutError):
            self._waited.times += 1

    def _before_attempt(self, **_: object) -> None:
        """Failures are tried four times; of silence twice is enough: it may have been that one connection's."""
        if getattr(self._waited, "times", 0) >= _SILENCES:
            raise SilentStoreError

    def _current(self) -> tuple[Any, Any]:
        if self._clients is None:
            raise StoreUnavailableError("the byte store is not open")
        return self._clients

    def _open(self) -> None:
        self._credentials, self._clients = self._connect()
        self._looked_at = time.monotonic()

    def _look(self) -> None:
        """Reads credentials again from time to time: nobody tells whoever only signs that they are refused."""
        if time.monotonic() - self._looked_at < _LOOK_S or not self._renewal.acquire(blocking=False):
            return
        try:
            self._looked_at = time.monotonic()
            with suppress(*FAILURES):  # such as a file that is just being written: those we have may do
                if self._read_credentials(self._session()) not in {None, self._credentials}:
                    self._credentials, self._clients = self._connect()
        finally:
            self._renewal.release()

    def _renew(self, refused: tuple[Any, Any]) -> bool:
        """Reads credentials again, where AWS clients find them; whether there are others now than those refused."""
        with self._renewal:
            if self._clients is not refused:
                return True  # by another thread
            if time.monotonic() - self._renewed_at < _RENEWAL_S:
                return False
            self._renewed_at = time.monotonic()
            credentials, clients = self._connect()
            if credentials == self._credentials:
                return False
            # The refused clients are left to the calls that still use them.
            self._credentials, self._clients = credentials, clients
            return True

    def _session(self) -> Any:  # noqa: ANN401 - boto3's
        region = self.address.region or ("us-east-1" if self.address.endpoint else None)  # else as AWS clients find it
        inner = botocore.session.Session()
        inner.register_component("data_loader", _loader())
        return boto3.session.Session(region_name=region, botocore_session=inner)

    def _read_credentials(self, session: Any) -> object:  # noqa: ANN401 - boto3's
        found = session.get_credentials()
        return found.get_frozen_credentials() if found else None

    def _connect(self) -> tuple[object, tuple[Any, Any]]:
        session = self._session()
        credentials = self._read_credentials(session)
        client = partial(session.client, "s3", config=self._configuration())
        calls = client(endpoint_url=self.address.endpoint)
        calls.meta.events.register("before-send.s3", self._before_attempt)
        calls.meta.events.register("needs-retry.s3", self._after_attempt)
        public = self.address.public_endpoint
        return credentials, (calls, client(endpoint_url=public) if public else calls)

    def _configuration(self) -> Config:
        return Config(
            signature_version="s3v4",
            connect_timeout=_CONNECT_S,
            read_timeout=self.address.timeout_s,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=_THREADS,
            # Only AWS knows the newer checksums. What we send is signed, or goes through TLS; what clients get they
            # check against the digest.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"} if self.address.endpoint else {},
        )
