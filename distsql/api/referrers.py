"""Referrers of a subject."""

from __future__ import annotations

import json
from typing import Final

from distsql.api.requests import Request
from distsql.api.responses import Header, Response, header, next_link
from distsql.oci.digest import Digest
from distsql.oci.manifest import OCI_INDEX

_PAGE: Final = 1000
# Clients take at least 4 MiB (PROTOCOL 4.2); a page stays below, with room for what surrounds the entries.
_PAGE_BYTES: Final = 3 * 1024**2


async def list_referrers(request: Request, name: str, digest: str) -> Response:
    """``GET /v2/<name>/referrers/<digest>``: always an index, by page (PROTOCOL 4.2, 4.3)."""
    subject = Digest.parse(digest)
    size = max(request.page_size(_PAGE), 1)
    artifact_type = request.parameter("artifactType") or None
    last = request.parameter("last")
    found = request.namespace.repository(name).manifests.referrers(
        subject, artifact_type=artifact_type, after=Digest.parse(last) if last else None, limit=size + 1
    )
    entries: list[str] = []
    room, more, shown = _PAGE_BYTES, False, last
    async for descriptor in found:
        entry = json.dumps(descriptor.to_json(), separators=(",", ":"), ensure_ascii=False)
        room -= len(entry)
        if len(entries) == size or (room < 0 and entries):
            more = True
            break
        entries.append(entry)
        shown = str(descriptor.digest)
    body = f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{",".join(entries)}]}}'.encode()
    headers: list[Header] = [header(b"content-type", OCI_INDEX)]
    if artifact_type:
        headers.append((b"oci-filters-applied", b"artifactType"))
    if more:
        filters = [("artifactType", artifact_type)] if artifact_type else []
        headers.append(next_link(f"/v2/{name}/referrers/{digest}", [*filters, ("n", size), ("last", shown)]))
    return Response(200, headers, body)
