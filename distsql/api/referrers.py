"""Referrers of a subject."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from distsql.api.permissions import needs
from distsql.api.requests import Request
from distsql.api.responses import Header, Response, header, next_link
from distsql.oci.descriptor import NO_ANNOTATIONS, Descriptor
from distsql.oci.digest import Digest
from distsql.oci.manifest import OCI_INDEX
from distsql.values import Action

# An entry costs ten times as much as a tag.
_PAGE: Final = 100
# Clients take at least 4 MiB (PROTOCOL 4.2); a page stays below, with room for what surrounds the entries.
_PAGE_BYTES: Final = 3 * 1024**2


@needs(Action.PULL)
async def list_referrers(request: Request, name: str, digest: str) -> Response:
    """``GET /v2/<name>/referrers/<digest>``: always an index, by page (PROTOCOL 4.2, 4.3)."""
    subject = Digest.parse(digest)
    size = request.page_size(_PAGE)
    artifact_type = request.parameter("artifactType") or None
    last = request.parameter("last")
    found = request.repository_of(name).manifests.referrers(
        subject,
        artifact_type=artifact_type,
        after=Digest.parse(last) if last else None,
        limit=size + 1,
    )
    entries, shown = await _page(found, size)
    body = b'{"schemaVersion":2,"mediaType":"%b","manifests":[%b]}' % (OCI_INDEX.encode(), b",".join(entries))
    headers: list[Header] = [header(b"content-type", OCI_INDEX)]
    filters = [("artifactType", artifact_type)] if artifact_type else []
    if filters:
        headers.append((b"oci-filters-applied", b"artifactType"))
    if shown:
        headers.append(next_link(f"/v2/{name}/referrers/{digest}", [*filters, ("n", size), ("last", shown)]))
    return Response(200, headers, body)


async def _page(found: AsyncIterator[Descriptor], size: int) -> tuple[list[bytes], Digest | None]:
    """Entries as they are sent, as many as a page takes, and the last of them when more remain."""
    entries: list[bytes] = []
    if size == 0:
        return entries, None
    room, shown = _PAGE_BYTES, None
    async for descriptor in found:
        entry = _entry(descriptor)
        room -= len(entry) + 1
        if len(entries) == size or room < 0:
            return entries, shown
        entries.append(entry)
        shown = descriptor.digest
    return entries, None


def _entry(descriptor: Descriptor) -> bytes:
    """The descriptor as JSON. Annotations that no page has room for are left to the manifest itself."""
    entry = msgspec.json.encode(descriptor.to_json())
    if len(entry) < _PAGE_BYTES:
        return entry
    return _entry(descriptor._replace(annotations=NO_ANNOTATIONS))
