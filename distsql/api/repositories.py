"""The base of the API, and the catalogue of repositories."""

from __future__ import annotations

from typing import Final

from distsql.api.permissions import Permission, needs
from distsql.api.requests import Request
from distsql.api.responses import Response, json_response, listing_response, next_link

_PAGE: Final = 1000


@needs(Permission.LOGIN)
async def get_base(request: Request) -> Response:
    """``GET /v2/``: this is a registry, and it may be used (PROTOCOL 0.6)."""
    del request
    return json_response(200, {})


@needs(Permission.CATALOG)
async def list_repositories(request: Request) -> Response:
    """``GET /v2/_catalog``: names, by page (PROTOCOL 4.4)."""
    size = request.page_size(_PAGE)
    after = request.full_name(request.parameter("last") or "")
    found = request.namespace.repositories(after=after, limit=size + 1 if size else 0)
    names = [name async for name in request.shown_names(found)]
    more = [next_link("/v2/_catalog", [("n", size), ("last", names[size - 1])])] if len(names) > size else []
    return listing_response({"repositories": names[:size]}, more)
