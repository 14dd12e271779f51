"""Upload sessions: begin, ask, append, finish, cancel. Every address of a session works as long as the session does."""

from __future__ import annotations

import contextlib
from uuid import UUID

from distsql.api.permissions import needs
from distsql.api.requests import Request
from distsql.api.responses import Response, header
from distsql.contract import Layer, LayerUpload
from distsql.errors import (
    BlobUnknownError,
    DigestInvalidError,
    NameInvalidError,
    UploadRangeError,
    UploadUnknownError,
)
from distsql.oci.digest import SHA256, Digest
from distsql.values import Action


@needs(Action.PUSH)
async def begin_upload(request: Request, name: str) -> Response:
    """``POST /v2/<name>/blobs/uploads/``: a session, a mount, or a whole blob (PROTOCOL 2.1, 2.3, 2.5, 2.11, 2.12)."""
    layers = request.repository_of(name).layers
    mount, digest = request.parameter("mount"), request.parameter("digest")
    if mount is not None:
        # What can't be mounted is an ordinary session, exactly as for content that exists nowhere.
        with contextlib.suppress(BlobUnknownError, NameInvalidError):
            source = request.parameter("from") or None
            return _created(name, await layers.mount(Digest.parse(mount), source and request.full_name(source)))
    elif digest is not None:
        return await _upload_whole(request, name, Digest.parse(digest))
    async with await layers.upload(request.parameter("digest-algorithm") or SHA256) as upload:
        return _session(202, name, upload)


async def _upload_whole(request: Request, name: str, digest: Digest) -> Response:
    """A blob in one request. When it fails nobody knows the session, so it ends."""
    async with await request.repository_of(name).layers.upload(digest.algorithm) as upload:
        try:
            await upload.read_from(request.stream())
            return _created(name, await upload.finish(digest))
        except BaseException:
            with contextlib.suppress(UploadUnknownError):
                await upload.cancel()
            raise


@needs(Action.PUSH)
async def get_upload(request: Request, name: str, uuid: str) -> Response:
    """``GET <location>``: how far the session is (PROTOCOL 2.9)."""
    async with await resume_upload(request, name, uuid) as upload:
        return _session(204, name, upload)


@needs(Action.PUSH)
async def append_to_upload(request: Request, name: str, uuid: str) -> Response:
    """``PATCH <location>``: a chunk, or a stream (PROTOCOL 2.7, 2.8)."""
    async with await resume_upload(request, name, uuid) as upload:
        await _append(request, upload)
        await upload.close()
        return _session(202, name, upload)


@needs(Action.PUSH)
async def finish_upload(request: Request, name: str, uuid: str) -> Response:
    """``PUT <location>?digest=``: the last chunk if any, and the end (PROTOCOL 2.2, 2.4, 2.8)."""
    digest = request.parameter("digest")
    if digest is None:
        raise DigestInvalidError("The closing PUT needs ?digest= of the whole content")
    wanted = Digest.parse(digest)
    async with await resume_upload(request, name, uuid) as upload:
        await _append(request, upload)
        return _created(name, await upload.finish(wanted))


@needs(Action.PUSH)
async def cancel_upload(request: Request, name: str, uuid: str) -> Response:
    """``DELETE <location>``: the session ends, its bytes are forgotten (PROTOCOL 2.10)."""
    async with await resume_upload(request, name, uuid) as upload:
        await upload.cancel()
    return Response(204)


async def resume_upload(request: Request, name: str, uuid: str) -> LayerUpload:
    layers = request.repository_of(name).layers
    with contextlib.suppress(ValueError):
        parsed = UUID(uuid)
        if str(parsed) == uuid:  # its one canonical form
            return await layers.resume(parsed)
    raise UploadUnknownError(f"{uuid[:64]!r} is no upload of this registry: begin one by POST")


async def _append(request: Request, upload: LayerUpload) -> None:
    """Adds the body at the end, where Content-Range has to begin as well (PROTOCOL 2.8)."""
    chunk = request.content_range()
    if chunk is None:
        await upload.read_from(request.stream())
        return
    first, last = chunk
    upload.seek(first)
    if last < first:
        raise UploadRangeError(f"Content-Range {first}-{last} ends before it begins", offset=upload.tell())
    await upload.read_from(request.stream(last - first + 1))


def _session(status: int, name: str, upload: LayerUpload) -> Response:
    headers = [
        header(b"location", f"/v2/{name}/blobs/uploads/{upload.uuid}"),
        header(b"range", f"0-{max(upload.tell() - 1, 0)}"),
        header(b"docker-upload-uuid", upload.uuid),
    ]
    if upload.minimum_chunk:
        headers.append(header(b"oci-chunk-min-length", upload.minimum_chunk))
    return Response(status, headers)


def _created(name: str, layer: Layer) -> Response:
    digest = str(layer.digest)
    return Response(201, (header(b"location", f"/v2/{name}/blobs/{digest}"), header(b"docker-content-digest", digest)))
