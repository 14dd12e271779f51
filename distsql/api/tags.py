"""Tags."""

from __future__ import annotations

from typing import Final

from distsql.api.permissions import needs
from distsql.api.requests import Request
from distsql.api.responses import Response, listing_response, next_link
from distsql.values import Action

_PAGE: Final = 1000


@needs(Action.PULL)
async def list_tags(request: Request, name: str) -> Response:
    """``GET /v2/<name>/tags/list``: in byte order, by page (PROTOCOL 4.1)."""
    size = request.page_size(_PAGE)
    after = request.parameter("last") or ""
    tags = request.repository_of(name).tags
    names = [tag async for tag in tags.list(after=after, limit=size + 1 if size else 0)]
    more = [next_link(f"/v2/{name}/tags/list", [("n", size), ("last", names[size - 1])])] if len(names) > size else []
    return listing_response({"name": name, "tags": names[:size]}, more)
