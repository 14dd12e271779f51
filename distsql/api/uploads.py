"""Upload sessions: begin, ask, append, finish, cancel. Every address of a session works as long as the session does."""

from __future__ import annotations

from uuid import UUID

from distsql.api.requests import Request
from distsql.api.responses import Response, header
from distsql.contract import Layer, LayerUpload
from distsql.errors import BlobUnknownError, DigestInvalidError, NameInvalidError, UploadUnknownError
from distsql.oci.digest import SHA256, Digest


async def begin_upload(request: Request, name: str) -> Response:
    """``POST /v2/<name>/blobs/uploads/``: a session, a mount, or a whole blob (PROTOCOL 2.1, 2.3, 2.5, 2.11, 2.12)."""
    layers = request.namespace.repository(name).layers
    mount = request.parameter("mount")
    if mount is not None:
        try:
            return _created(name, await layers.mount(Digest.parse(mount), request.parameter("from") or None))
        except (BlobUnknownError, NameInvalidError):
            pass  # can't be mounted: an ordinary session, exactly as for content that exists nowhere
    digest = request.parameter("digest")
    if digest is not None and mount is None:
        wanted = Digest.parse(digest)
        async with await layers.upload(wanted.algorithm) as upload:
            try:
                await upload.read_from(request.stream())
                return _created(name, await upload.finish(wanted), digest)
            except BaseException:
                await upload.cancel()  # nobody knows this session
                raise
    async with await layers.upload(request.parameter("digest-algorithm") or SHA256) as upload:
        return _session(202, name, upload)


async def get_upload(request: Request, name: str, uuid: str) -> Response:
    """``GET <location>``: how far the session is (PROTOCOL 2.9)."""
    async with await _resume(request, name, uuid) as upload:
        return _session(204, name, upload)


async def append_to_upload(request: Request, name: str, uuid: str) -> Response:
    """``PATCH <location>``: a chunk, or a stream (PROTOCOL 2.7, 2.8)."""
    async with await _resume(request, name, uuid) as upload:
        await _append(request, upload)
        await upload.close()
        return _session(202, name, upload)


async def finish_upload(request: Request, name: str, uuid: str) -> Response:
    """``PUT <location>?digest=``: the last chunk if any, and the end (PROTOCOL 2.2, 2.4, 2.8)."""
    digest = request.parameter("digest")
    if digest is None:
        raise DigestInvalidError("The closing PUT needs ?digest= of the whole content")
    wanted = Digest.parse(digest)
    async with await _resume(request, name, uuid) as upload:
        await _append(request, upload)
        return _created(name, await upload.finish(wanted), digest)


async def cancel_upload(request: Request, name: str, uuid: str) -> Response:
    """``DELETE <location>``: the session ends, its bytes are forgotten (PROTOCOL 2.10)."""
    async with await _resume(request, name, uuid) as upload:
        await upload.cancel()
    return Response(204)


async def _resume(request: Request, name: str, uuid: str) -> LayerUpload:
    try:
        parsed = UUID(uuid) if len(uuid) == 36 else None  # noqa: PLR2004  # its one canonical form
    except ValueError:
        parsed = None
    if parsed is None:
        raise UploadUnknownError(f"{uuid[:64]!r} is no upload of this registry: begin one by POST")
    return await request.namespace.repository(name).layers.resume(parsed)


async def _append(request: Request, upload: LayerUpload) -> None:
    chunk = request.content_range()
    if chunk is not None:
        upload.seek(chunk[0])
    await upload.read_from(request.stream())


def _session(status: int, name: str, upload: LayerUpload) -> Response:
    return Response(
        status,
        (
            header(b"location", f"/v2/{name}/blobs/uploads/{upload.uuid}"),
            header(b"range", f"0-{max(upload.tell() - 1, 0)}"),
            header(b"docker-upload-uuid", upload.uuid),
        ),
    )


def _created(name: str, layer: Layer, digest: str | None = None) -> Response:
    named = digest or str(layer.digest)
    return Response(
        201, (header(b"location", f"/v2/{name}/blobs/{named}"), header(b"docker-content-digest", layer.digest))
    )
