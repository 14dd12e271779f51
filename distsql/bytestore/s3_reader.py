"""Reading from an object store: ranges, in pieces, with the next piece on its way while one is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

from distsql.bytestore.s3_client import S3Client
from distsql.errors import StoreUnavailableError

_PIECE_BYTES: Final = 1024 * 1024

# How often a stream that broke off is taken up again without having got any further.
_ATTEMPTS: Final = 3


async def read(client: S3Client, key: str, start: int, stop: int) -> bytes:
    """The bytes at once."""
    if start == stop:
        await _check_length(client, key, stop)
        return b""
    return b"".join([piece async for piece in stream(client, key, start, stop)])


async def stream(client: S3Client, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
    """The bytes in pieces. A connection that breaks is followed by another one, behind what was had."""
    if start == stop:
        await _check_length(client, key, stop)
        return
    position, failures, etag = start, 0, None
    while position < stop:
        opened = await _open(client, key, position, stop, etag)
        etag = opened["ETag"]
        try:
            async for piece in _pieces(client, key, opened["Body"]):
                position, failures = position + len(piece), 0
                yield piece
            if position < stop:
                raise StoreUnavailableError(f"the byte store's answer for {key} ended early", retry_after=5)
        except StoreUnavailableError:
            failures += 1
            if failures == _ATTEMPTS:
                raise


async def _check_length(client: S3Client, key: str, stop: int) -> None:
    length = await client.length(key)
    if length is None or length < stop:
        raise client.missing(key)


async def _open(client: S3Client, key: str, start: int, stop: int, etag: str | None) -> dict[str, Any]:
    same = {"IfMatch": etag} if etag else {}
    opened = await client.call("get_object", key, Range=f"bytes={start}-{stop - 1}", **same)
    if opened["ContentLength"] != stop - start:  # a range is cut where the object ends
        opened["Body"].close()
        raise client.missing(key)
    return opened


async def _pieces(client: S3Client, key: str, body: Any) -> AsyncIterator[bytes]:  # noqa: ANN401 - botocore's
    read = partial(client.run, partial(body.read, _PIECE_BYTES), key=key)
    following = asyncio.create_task(read())
    try:
        while piece := await following:
            following = asyncio.create_task(read())
            yield piece
    finally:
        if not following.done():
            following.cancel()
            await asyncio.wait([following])
        following.cancelled() or following.exception()  # asked for, or asyncio complains
        body.close()
