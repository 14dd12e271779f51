"""Repositories, past the OCI API: removing one, what may be done in it, and which ones hold some content."""

from __future__ import annotations

from typing import Final

from distsql.api.permissions import Permission, needs
from distsql.api.requests import Request
from distsql.api.responses import Response, json_response, next_link
from distsql.oci.digest import Digest
from distsql.values import Action

_PAGE: Final = 1000


@needs(Action.ADMIN)
async def remove_repository(request: Request, name: str) -> Response:
    """``DELETE /v2/<name>/_distsql/``: the repository with everything in it (PROTOCOL 5.2, 6.4)."""
    await request.repository_of(name).remove()
    return Response(202)


@needs(Action.PULL)
async def get_access(request: Request, name: str) -> Response:
    """``GET /v2/<name>/_distsql/access``: what the caller may do there."""
    access, full_name = request.namespace.access, request.repository_of(name).name
    allowed = [action.value for action in Action if await access.allows(full_name, action)]
    return json_response(200, {"actions": allowed})


@needs(Permission.CATALOG)
async def list_holders(request: Request, digest: str) -> Response:
    """``GET /v2/_distsql/holders/<digest>``: repositories that hold the blob or manifest, by page."""
    size, more = request.page_size(_PAGE), []
    names: list[str] = []
    after = request.full_name(request.parameter("last") or "")
    async for name in request.shown_names(request.namespace.index.holders(Digest.parse(digest), after=after)):
        if len(names) == size:
            more = [next_link(f"/v2/_distsql/holders/{digest}", [("n", size), ("last", names[-1])])] if names else []
            break
        names.append(name)
    return json_response(200, {"repositories": names}, more)
