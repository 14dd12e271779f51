"""Tags, past the OCI API: compare-and-swap, time travel, and the tags of a digest."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from distsql.api.permissions import needs
from distsql.api.preconditions import entity_tag, expected_digest
from distsql.api.requests import ParameterInvalidError, Request
from distsql.api.responses import Response, json_response, next_link
from distsql.errors import DigestInvalidError, TagUnknownError
from distsql.oci.digest import Digest
from distsql.values import Action, TagMove

_PAGE: Final = 1000


@needs(Action.PULL)
async def get_tag(request: Request, name: str, tag: str) -> Response:
    """``GET /v2/<name>/_distsql/tags/<tag>[?at=]``: what the tag points to, or pointed to at an instant."""
    tags, at = request.repository_of(name).tags, instant(request, "at")
    digest = (await tags.get(tag)).digest if at is None else await tags.resolve(tag, at=at)
    if digest is None:
        raise TagUnknownError(f"{tag[:128]!r} pointed to nothing then", detail={"tag": tag[:128]})
    return pointing(tag, digest)


@needs(Action.PUSH)
async def put_tag(request: Request, name: str, tag: str) -> Response:
    """``PUT /v2/<name>/_distsql/tags/<tag>?digest=``: points the tag, if it points to what the headers expect.

    ``If-Match: "<digest>"`` and ``If-None-Match: *`` make it a compare-and-swap: 412 with the current digest.
    """
    digest = request.parameter("digest")
    if digest is None:
        raise DigestInvalidError("Tagging needs ?digest= of the manifest")
    wanted = Digest.parse(digest)
    await request.repository_of(name).tags.tag(tag, wanted, expected=expected_digest(request))
    return pointing(tag, wanted)


def pointing(tag: str, digest: Digest) -> Response:
    """That the tag points to the digest."""
    return json_response(200, {"tag": tag, "digest": str(digest)}, (entity_tag(digest),))


@needs(Action.PULL)
async def list_moves(request: Request, name: str, tag: str) -> Response:
    """``GET /v2/<name>/_distsql/tags/<tag>/history``: every move of the tag, newest first, by page."""
    size = request.page_size(_PAGE)
    found = request.repository_of(name).tags.history(
        tag, before=instant(request, "before"), limit=size + 1 if size else 0
    )
    moves = [move async for move in found]
    parameters = [("n", size), ("before", moves[size - 1].valid_from.isoformat())] if len(moves) > size else None
    more = [next_link(f"/v2/{name}/_distsql/tags/{tag}/history", parameters)] if parameters else []
    return json_response(200, {"tag": tag, "moves": [_move(move) for move in moves[:size]]}, more)


@needs(Action.PULL)
async def list_tags_of_manifest(request: Request, name: str, digest: str) -> Response:
    """``GET /v2/<name>/_distsql/manifests/<digest>/tags``: the live tags on the manifest, by page."""
    size = request.page_size(_PAGE)
    found = request.repository_of(name).tags.lookup(
        Digest.parse(digest), after=request.parameter("last") or "", limit=size + 1 if size else 0
    )
    names = [tag async for tag in found]
    parameters = [("n", size), ("last", names[size - 1])] if len(names) > size else None
    more = [next_link(f"/v2/{name}/_distsql/manifests/{digest}/tags", parameters)] if parameters else []
    return json_response(200, {"tags": names[:size]}, more)


def _move(move: TagMove) -> dict[str, object]:
    return {
        "digest": str(move.digest),
        "valid_from": move.valid_from.isoformat(),
        "valid_to": move.valid_to.isoformat() if move.valid_to else None,
        "actor": move.actor,
        "ended_by": move.ended_by,
    }


def instant(request: Request, name: str) -> datetime | None:
    """The parameter as an instant (RFC 3339, with its offset from UTC)."""
    text = request.parameter(name)
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ParameterInvalidError(f"{name}={text[:40]!r} is no instant: write it as 2026-11-23T21:00:00Z")
