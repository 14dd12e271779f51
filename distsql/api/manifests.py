"""Manifests: pull, push, delete."""

from __future__ import annotations

from typing import Final

from distsql.api.preconditions import not_modified
from distsql.api.requests import Request
from distsql.api.responses import INERT, Header, Response, header
from distsql.errors import ManifestUnknownError
from distsql.oci.digest import Digest
from distsql.oci.manifest import parse
from distsql.oci.names import check_tag, is_tag, parse_reference

_DIGEST: Final = b"docker-content-digest"


async def get_manifest(request: Request, name: str, reference: str) -> Response:
    """``GET`` and ``HEAD /v2/<name>/manifests/<reference>``: exactly as pushed (PROTOCOL 1.1, 1.3)."""
    manifests = request.namespace.repository(name).manifests
    if ":" in reference:
        manifest = await manifests.get(Digest.parse(reference))
    elif is_tag(reference):
        manifest = await manifests.get_by_tag(reference)
    else:
        raise ManifestUnknownError(f"{reference[:128]!r} can't be a tag, so there is none")
    digest = str(manifest.digest).encode()
    headers = ((_DIGEST, digest), (b"etag", b'"%b"' % digest))
    if not_modified(request, manifest.digest):
        return Response(304, headers)
    return Response(
        200, ((b"content-type", manifest.media_type.encode("latin-1", "replace")), *headers, *INERT), manifest.payload
    )


async def put_manifest(request: Request, name: str, reference: str) -> Response:
    """``PUT /v2/<name>/manifests/<reference>[?tag=...]`` (PROTOCOL 3.1 to 3.7)."""
    repository = request.namespace.repository(name)
    target = parse_reference(reference)
    payload = await request.manifest()
    digest = target if isinstance(target, Digest) else None
    manifest = parse(payload, request.header(b"content-type"), digest)
    tags = [check_tag(tag) for tag in request.query.get("tag", ())] if digest else [reference]
    stored = await repository.manifests.put(manifest, tags)
    headers: list[Header] = [header(b"location", f"/v2/{name}/manifests/{reference}"), header(_DIGEST, stored)]
    if manifest.subject is not None:
        headers.append(header(b"oci-subject", manifest.subject.digest))
    if digest:
        headers.extend(header(b"oci-tag", tag) for tag in dict.fromkeys(tags))
    return Response(201, headers)


async def delete_manifest(request: Request, name: str, reference: str) -> Response:
    """``DELETE /v2/<name>/manifests/<reference>``: a tag alone, or a manifest with its tags (PROTOCOL 5.1)."""
    repository = request.namespace.repository(name)
    if ":" in reference:
        await repository.manifests.delete(Digest.parse(reference))
    else:
        await repository.tags.untag(reference)
    return Response(202)
