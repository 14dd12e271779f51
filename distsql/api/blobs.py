"""Blobs: pull and delete."""

from __future__ import annotations

from typing import Final

from distsql.api.permissions import needs
from distsql.api.preconditions import forced, not_modified
from distsql.api.ranges import parse_range
from distsql.api.requests import Pull, Request
from distsql.api.responses import API_VERSION, INERT, Header, Response, header
from distsql.errors import BytesMissingError
from distsql.oci.digest import Digest
from distsql.registry.stored_layer import StoredLayer
from distsql.values import Action, ASGIApplication, ASGIReceive, ASGIScope, ASGISend

# Read in one go and answered from memory: below this, handing over to the server's file sending costs more.
_INLINE: Final = 64 * 1024
_OCTETS: Final[Header] = (b"content-type", b"application/octet-stream")


@needs(Action.PULL)
async def get_blob(request: Request, name: str, digest: str) -> ASGIApplication:
    """``GET`` and ``HEAD /v2/<name>/blobs/<digest>``, with ranges (PROTOCOL 1.1, 1.2)."""
    wanted = Digest.parse(digest)
    layer = await request.repository_of(name).layers.fetch(wanted)
    if not_modified(request, wanted):
        return Response(304, _describe(wanted))
    request.pull = Pull(length=layer.length)
    return layer.handler(request.scope)


@needs(Action.DELETE)
async def delete_blob(request: Request, name: str, digest: str) -> Response:
    """``DELETE /v2/<name>/blobs/<digest>[?force=true]``: out of this repository (PROTOCOL 5.1, 5.2)."""
    await request.repository_of(name).layers.delete(Digest.parse(digest), force=forced(request))
    return Response(202)


def _describe(digest: Digest) -> tuple[Header, ...]:
    text = str(digest).encode()
    return ((b"docker-content-digest", text), (b"etag", b'"%b"' % text), (b"accept-ranges", b"bytes"), *INERT)


class LayerResponse:
    """A layer's content as an ASGI application: from memory, as a file, as a stream, or as a redirect."""

    def __init__(self, layer: StoredLayer, request: ASGIScope) -> None:
        self._layer = layer
        self._range = parse_range(request, layer.length, entity_tag=b'"%b"' % str(layer.digest).encode())

    async def __call__(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Answers the request."""
        layer = self._layer
        start, stop = self._range or (0, layer.length)
        headers = [_OCTETS, *_describe(layer.digest)]
        if self._range:
            headers.append(header(b"content-range", f"bytes {start}-{stop - 1}/{layer.length}"))
        status = 206 if self._range else 200
        if scope["method"] == "HEAD":
            await layer.promise()
            await Response(status, headers, length=stop - start)(scope, receive, send)
        elif url := await layer.redirect_url():
            await Response(307, (header(b"location", url), *_describe(layer.digest)))(scope, receive, send)
        elif stop - start <= _INLINE:
            layer.seek(start)
            await Response(status, headers, await layer.read(stop - start))(scope, receive, send)
        else:
            headers += [API_VERSION, header(b"content-length", stop - start)]
            await self._send_large(scope, send, status, headers)

    async def _send_large(self, scope: ASGIScope, send: ASGISend, status: int, headers: list[Header]) -> None:
        layer = self._layer
        opening = {"type": "http.response.start", "status": status, "headers": headers}
        path = None if self._range else layer.local_path()
        if path is not None and "http.response.pathsend" in (scope.get("extensions") or {}):
            if not path.exists():  # asked now, while there is still an answer to give
                raise BytesMissingError(f"The byte store has lost {layer.digest}: run `distsql verify`")
            await send(opening)
            await send({"type": "http.response.pathsend", "path": str(path)})
            return
        start, stop = self._range or (0, layer.length)
        opened = False
        async for piece in layer.stream(start, stop):
            if not opened:
                await send(opening)
                opened = True
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def serve_layer(layer: StoredLayer, request: ASGIScope) -> ASGIApplication:
    """A layer's HTTP face, which the composition root passes to the registry."""
    return LayerResponse(layer, request)
