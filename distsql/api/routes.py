"""Routes, read from the path's right end: a repository's name may have components like ``blobs`` or ``manifests``."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from distsql.api import blobs, manifests, referrers, repositories, tags, uploads
from distsql.api.authorization import Authorizer
from distsql.api.errors import error_response
from distsql.api.extension.routes import EXTENSION, find_resource
from distsql.api.permissions import need_of
from distsql.api.requests import Methods, Request
from distsql.api.responses import header
from distsql.values import Action, ASGIApplication

BASE: Final[Methods] = {"GET": repositories.get_base, "HEAD": repositories.get_base}
CATALOG: Final[Methods] = {"GET": repositories.list_repositories, "HEAD": repositories.list_repositories}
TAGS: Final[Methods] = {"GET": tags.list_tags, "HEAD": tags.list_tags}
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
REFERRERS: Final[Methods] = {"GET": referrers.list_referrers, "HEAD": referrers.list_referrers}


# What is named by the last segment, behind its noun.
_NAMED: Final = {"manifests": MANIFEST, "blobs": BLOB, "referrers": REFERRERS}


def find_route(path: bytes) -> tuple[Methods, tuple[str, ...]] | None:
    """The methods of a path below ``/v2/`` and the handlers' arguments: the name, and what comes behind it."""
    segments = _split(path)
    if EXTENSION in segments:  # no component of a name begins with "_"
        at = segments.index(EXTENSION)
        return find_resource("/".join(segments[:at]), segments[at + 1 :])
    if len(segments) < 2:  # noqa: PLR2004  # a noun and what it is about
        return {"": (BASE, ()), "_catalog": (CATALOG, ())}.get("".join(segments))
    *name, noun, last = segments
    rest: tuple[str, ...] = ()
    if noun == "uploads" and name[-1:] == ["blobs"]:
        name.pop()
        methods, rest = (UPLOAD, (last,)) if last else (UPLOADS, ())
    elif (noun, last) == ("blobs", "uploads"):
        methods = UPLOADS
    elif (noun, last) == ("tags", "list"):
        methods = TAGS
    elif noun in _NAMED:
        methods, rest = _NAMED[noun], (last,)
    else:
        return None
    return (methods, ("/".join(name), *rest)) if name else None


def _split(path: bytes) -> list[str]:
    """The path's segments behind ``/v2``, decoded one by one: an encoded slash is no separator, and in no name."""
    text = path.decode("utf-8", "replace")
    segments = text.split("/")[2:]
    return [unquote(segment).replace("/", "%2F") for segment in segments] if "%" in text else segments


async def answer(request: Request, path: bytes, authorizer: Authorizer | None = None) -> ASGIApplication:
    """Finds the handler and gives its answer, to callers who may have it; without an authorizer to everybody."""
    route = find_route(path)
    if route is None:
        return error_response(404, "UNSUPPORTED", "This registry has no such path")
    methods, arguments = route
    handler = methods.get(request.method)
    if handler is None:
        allowed = header(b"allow", ", ".join(methods))
        return error_response(405, "UNSUPPORTED", f"{request.method} is not for this path", headers=(allowed,))
    request.route, request.arguments = handler.__name__, arguments
    need = need_of(handler)
    if authorizer is not None and not authorizer.admits(request, need, arguments):
        refusal = await authorizer.refuse(request, need, arguments)
        if refusal is not None:
            return refusal
    if isinstance(need, Action):
        request.repository = request.full_name(arguments[0])
    return await handler(request, *arguments)
