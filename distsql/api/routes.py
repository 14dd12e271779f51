"""Routes, read from the right end of the path: a repository's name may have components like ``blobs`` or ``manifests``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from distsql.api import blobs, manifests, referrers, repositories, tags, uploads
from distsql.api.errors import error_response
from distsql.api.requests import Request
from distsql.api.responses import header
from distsql.contract import ASGIApplication

Handler = Callable[..., Awaitable[ASGIApplication]]
Methods = Mapping[str, Handler]

BASE: Final[Methods] = {"GET": repositories.get_base, "HEAD": repositories.get_base}
CATALOG: Final[Methods] = {"GET": repositories.list_repositories}
TAGS: Final[Methods] = {"GET": tags.list_tags}
MANIFEST: Final[Methods] = {
    "GET": manifests.get_manifest,
    "HEAD": manifests.get_manifest,
    "PUT": manifests.put_manifest,
    "DELETE": manifests.delete_manifest,
}
BLOB: Final[Methods] = {"GET": blobs.get_blob, "HEAD": blobs.get_blob, "DELETE": blobs.delete_blob}
UPLOADS: Final[Methods] = {"POST": uploads.begin_upload}
UPLOAD: Final[Methods] = {
    "GET": uploads.get_upload,
    "HEAD": uploads.get_upload,
    "PATCH": uploads.append_to_upload,
    "PUT": uploads.finish_upload,
    "DELETE": uploads.cancel_upload,
}
REFERRERS: Final[Methods] = {"GET": referrers.list_referrers}


def find_route(path: bytes) -> tuple[Methods, tuple[str, ...]] | None:
    """The methods of a path below ``/v2/`` and the handlers' arguments: the name, and what comes behind it."""
    segments = [unquote_to_bytes(segment).decode("utf-8", "replace") for segment in path.split(b"/")[2:]]
    # An encoded slash would make one segment two; no name, tag or digest has one.
    if any("/" in segment or "\0" in segment for segment in segments):
        return None
    match segments:
        case [] | [""]:
            return BASE, ()
        case ["_catalog"]:
            return CATALOG, ()
        case [*name, "tags", "list"] if name:
            return TAGS, ("/".join(name),)
        case [*name, "blobs", "uploads"] | [*name, "blobs", "uploads", ""] if name:
            return UPLOADS, ("/".join(name),)
        case [*name, "blobs", "uploads", uuid] if name:
            return UPLOAD, ("/".join(name), uuid)
        case [*name, "manifests", reference] if name:
            return MANIFEST, ("/".join(name), reference)
        case [*name, "blobs", digest] if name:
            return BLOB, ("/".join(name), digest)
        case [*name, "referrers", digest] if name:
            return REFERRERS, ("/".join(name), digest)
    return None


async def answer(request: Request, path: bytes) -> ASGIApplication:
    """Finds the handler and gives its answer."""
    route = find_route(path)
    if route is None:
        return error_response(404, "UNSUPPORTED", "This registry has no such path")
    methods, arguments = route
    handler = methods.get(request.method)
    if handler is None:
        allowed = header(b"allow", ", ".join(methods))
        return error_response(405, "UNSUPPORTED", f"{request.method} is not for this path", headers=(allowed,))
    return await handler(request, *arguments)
