"""Manifests: pull, push, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from distsql.api.permissions import needs
from distsql.api.preconditions import forced, not_modified
from distsql.api.requests import Pull, Request
from distsql.api.responses import INERT, Header, Response, header, warning
from distsql.errors import ManifestUnknownError
from distsql.oci.digest import Digest
from distsql.oci.manifest import SCHEMA1, ParsedManifest, parse
from distsql.oci.names import check_tag, is_tag, parse_reference
from distsql.values import Action

_DIGEST: Final = b"docker-content-digest"
# Bytes that are parsed in milliseconds; megabytes take up to a second, in which other requests must go on.
_QUICK: Final = 256 * 1024


@needs(Action.PULL)
async def get_manifest(request: Request, name: str, reference: str) -> Response:
    """``GET`` and ``HEAD /v2/<name>/manifests/<reference>``: exactly as pushed (PROTOCOL 1.1, 1.3)."""
    manifests = request.repository_of(name).manifests
    wanted = _existing(reference)
    manifest = await (manifests.get(wanted) if isinstance(wanted, Digest) else manifests.get_by_tag(wanted))
    request.pull = Pull(None if isinstance(wanted, Digest) else wanted, manifest.digest)
    digest = str(manifest.digest).encode()
    headers = ((_DIGEST, digest), (b"etag", b'"%b"' % digest))
    if not_modified(request, manifest.digest):
        return Response(304, headers)
    return Response(
        200, ((b"content-type", manifest.media_type.encode("latin-1", "replace")), *headers, *INERT), manifest.payload
    )


@needs(Action.PUSH)
async def put_manifest(request: Request, name: str, reference: str) -> Response:
    """``PUT /v2/<name>/manifests/<reference>[?tag=...]`` (PROTOCOL 3.1 to 3.7)."""
    repository = request.repository_of(name)
    target = parse_reference(reference)
    digest = target if isinstance(target, Digest) else None
    extra = [check_tag(tag) for tag in dict.fromkeys(request.query.get("tag", ()))]
    payload = await request.manifest()
    manifest = await _parse(payload, request.header(b"content-type"), digest)
    stored = await repository.manifests.put(manifest, extra if digest else [reference])
    headers: list[Header] = [header(b"location", f"/v2/{name}/manifests/{reference}"), header(_DIGEST, stored)]
    if manifest.subject is not None:
        headers.append(header(b"oci-subject", manifest.subject.digest))
    if digest:
        headers.extend(header(b"oci-tag", tag) for tag in extra)
    return Response(201, [*headers, *_warnings(manifest, unused_tags=extra if digest is None else ())])


@needs(Action.DELETE)
async def delete_manifest(request: Request, name: str, reference: str) -> Response:
    """``DELETE /v2/<name>/manifests/<reference>[?force=true]``: a tag, or a manifest and its tags (PROTOCOL 5)."""
    repository = request.repository_of(name)
    wanted = _existing(reference)
    if isinstance(wanted, Digest):
        await repository.manifests.delete(wanted, force=forced(request))
    else:
        await repository.tags.untag(wanted)
    return Response(202)


async def _parse(payload: bytes, content_type: str | None, digest: Digest | None) -> ParsedManifest:
    if len(payload) <= _QUICK:
        return parse(payload, content_type, digest)
    return await asyncio.to_thread(parse, payload, content_type, digest)


def _existing(reference: str) -> Digest | str:
    """A digest, or a tag that may exist; `ManifestUnknownError` for what can be neither (PROTOCOL 0.2)."""
    if ":" in reference:
        return Digest.parse(reference)
    if not is_tag(reference):
        raise ManifestUnknownError(f"{reference[:128]!r} can't be a tag, so there is none")
    return reference


def _warnings(manifest: ParsedManifest, *, unused_tags: Sequence[str]) -> Iterator[Header]:
    """What was done differently from what the client may think (PROTOCOL 6.3)."""
    if unused_tags:
        yield warning("?tag= belongs to a push by digest: this push was by tag, and set that tag only")
    if manifest.media_type in SCHEMA1:
        yield warning("Docker's schema 1 is obsolete: push an OCI image or Docker schema 2")
