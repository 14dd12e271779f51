"""Undo, past the OCI API: what was deleted and can be restored, and tags that go back."""

from __future__ import annotations

from typing import Final

from distsql.api.extension.tags import instant, pointing
from distsql.api.permissions import needs
from distsql.api.requests import Request
from distsql.api.responses import Response, json_response
from distsql.oci.digest import Digest
from distsql.values import Action, DeletedThing

_MOST: Final = 10_000


@needs(Action.PULL)
async def list_deleted(request: Request, name: str) -> Response:
    """``GET /v2/<name>/_distsql/deleted[?n=]``: tags and manifests that can be restored, the newest first."""
    found = await request.repository_of(name).restorations.deleted(limit=request.page_size(_MOST))
    return json_response(200, {"deleted": [_described(each) for each in found]})


@needs(Action.ADMIN)
async def restore_repository(request: Request, name: str) -> Response:
    """``POST /v2/<name>/_distsql/restore``: the repository that was removed last under this name."""
    await request.repository_of(name).restorations.restore_repository()
    return Response(204)


@needs(Action.PUSH)
async def restore_manifest(request: Request, name: str, digest: str) -> Response:
    """``POST /v2/<name>/_distsql/manifests/<digest>/restore``: with its children, tags and referrers."""
    await request.repository_of(name).restorations.restore_manifest(Digest.parse(digest))
    return Response(204)


@needs(Action.PUSH)
async def restore_tag(request: Request, name: str, tag: str) -> Response:
    """``POST /v2/<name>/_distsql/tags/<tag>/restore``: an ended tag, and what it pointed to."""
    return pointing(tag, await request.repository_of(name).restorations.restore_tag(tag))


@needs(Action.PUSH)
async def roll_back(request: Request, name: str, tag: str) -> Response:
    """``POST /v2/<name>/_distsql/tags/<tag>/rollback[?at=]``: to what it was then, or before its last move."""
    at = instant(request, "at")
    return pointing(tag, await request.repository_of(name).restorations.roll_back(tag, at=at))


def _described(thing: DeletedThing) -> dict[str, object]:
    return {
        "kind": thing.kind,
        "tag": thing.tag,
        "digest": str(thing.digest) if thing.digest else None,
        "deleted_at": thing.deleted_at.isoformat(),
        "deleted_by": thing.deleted_by,
        "restorable_until": thing.restorable_until.isoformat(),
    }
