"""Blobs and upload sessions, past the OCI API: what is known of them, and mounting without a session."""

from __future__ import annotations

from distsql.api.permissions import needs
from distsql.api.requests import Request
from distsql.api.responses import Response, json_response
from distsql.api.uploads import resume_upload
from distsql.contract import Layer
from distsql.oci.digest import Digest
from distsql.values import Action


@needs(Action.PULL)
async def get_blob(request: Request, name: str, digest: str) -> Response:
    """``GET /v2/<name>/_distsql/blobs/<digest>``: the blob's length in bytes, and since when the tenant has it."""
    async with await request.repository_of(name).layers.fetch(Digest.parse(digest)) as layer:
        return _described(200, layer)


@needs(Action.PUSH)
async def mount_blob(request: Request, name: str, digest: str) -> Response:
    """``PUT /v2/<name>/_distsql/blobs/<digest>[?from=]``: mounts it, or changes nothing at all.

    The OCI API answers a mount that can't be with an upload session, which makes the repository (PROTOCOL 2.11).
    """
    layers, source = request.repository_of(name).layers, request.parameter("from")
    async with await layers.mount(Digest.parse(digest), source and request.full_name(source)) as layer:
        return _described(201, layer)


def _described(status: int, layer: Layer) -> Response:
    described = {"digest": str(layer.digest), "length": layer.length, "created_at": layer.created_at.isoformat()}
    return json_response(status, described)


@needs(Action.PUSH)
async def get_upload(request: Request, name: str, uuid: str) -> Response:
    """``GET /v2/<name>/_distsql/uploads/<uuid>``: the session with its exact offset (``Range: 0-0`` is 0 or 1 byte)."""
    async with await resume_upload(request, name, uuid) as upload:
        described = {
            "uuid": str(upload.uuid),
            "offset": upload.tell(),
            "started_at": upload.started_at.isoformat(),
            "expires_at": upload.expires_at.isoformat(),
        }
        return json_response(200, described)
