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
    layer = await request.repository_of(name).layers.fetch(wanted, promised=request.method == "HEAD")
    if not_modified(request, wanted):
        return Response(304, _describe(wanted))
    request.pull = Pull(length=layer.length)
    content = layer.handler(request.scope)
    small = await content.small(request.method) if isinstance(content, LayerResponse) else None
    return small or content


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
        self._headers = _describe(layer.digest)
        (_, entity_tag) = self._headers[1]
        self._range = parse_range(request, layer.length, entity_tag=entity_tag)

    async def __call__(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Answers the request."""
        small = await self.small(scope["method"])
        if small is not None:
            await small(scope, receive, send)
        else:
            await self._send_large(scope, send)

    async def small(self, method: str) -> Response | None:
        """The answer, if it fits into memory: it has no content, or little."""
        layer = self._layer
        start, stop = self._range or (0, layer.length)
        if method == "HEAD":
            await layer.promise()
            return Response(*self._opening(start, stop), length=stop - start)
        if url := await layer.redirect_url():
            return Response(307, (header(b"location", url), *self._headers))
        if stop - start <= _INLINE:
            layer.seek(start)
            return Response(*self._opening(start, stop), await layer.read(stop - start))
        return None

    def _opening(self, start: int, stop: int) -> tuple[int, list[Header]]:
        if not self._range:
            return 200, [_OCTETS, *self._headers]
        content_range = header(b"content-range", f"bytes {start}-{stop - 1}/{self._layer.length}")
        return 206, [_OCTETS, *self._headers, content_range]

    async def _send_large(self, scope: ASGIScope, send: ASGISend) -> None:
        layer = self._layer
        start, stop = self._range or (0, layer.length)
        status, headers = self._opening(start, stop)
        headers += [API_VERSION, header(b"content-length", stop - start)]
        opening = {"type": "http.response.start", "status": status, "headers": headers}
        files = (scope.get("extensions") or {}).get("http.response.pathsend")
        path = None if files is None or (self._range and not files.get("parts")) else layer.local_path()
        if path is not None:
            if not path.exists():  # asked now, while there is still an answer to give
                raise BytesMissingError(f"The byte store has lost {layer.digest}: run `distsql verify`")
            await send(opening)
            part = {"offset": start, "count": stop - start} if self._range else {}
            await send({"type": "http.response.pathsend", "path": str(path), **part})
            return
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
