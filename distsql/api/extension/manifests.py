"""Manifests, past the OCI API: all of them, and what is signed."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from distsql.api.permissions import needs
from distsql.api.requests import ParameterInvalidError, Request
from distsql.api.responses import Response, json_response, next_link
from distsql.oci.descriptor import Descriptor
from distsql.oci.digest import Digest
from distsql.oci.manifest import OCI_INDEX
from distsql.oci.manifest.document import read_document
from distsql.values import Action

_PAGE: Final = 100


@needs(Action.PULL)
async def list_manifests(request: Request, name: str) -> Response:
    """``GET /v2/<name>/_distsql/manifests``: an index of all manifests, in the order of their digests, by page."""
    size, last = request.page_size(_PAGE), request.parameter("last")
    entries: list[dict[str, object]] = []
    more = []
    async for each in request.repository_of(name).manifests.all(after=Digest.parse(last) if last else None):
        if len(entries) == size:
            shown = [("n", size), ("last", entries[-1]["digest"])] if entries else None
            more = [next_link(f"/v2/{name}/_distsql/manifests", shown)] if shown else []
            break
        entries.append(Descriptor(each.media_type, len(each.payload), each.digest).to_json())
    found = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return json_response(200, found, more)


@needs(Action.PULL)
async def list_signatures(request: Request, name: str, digest: str) -> Response:
    """``GET /v2/<name>/_distsql/manifests/<digest>/signatures``: JWS signatures, in base64, in order of arrival."""
    found = await request.repository_of(name).signatures.get(Digest.parse(digest))
    return json_response(200, {"signatures": [base64.b64encode(each).decode() for each in found]})


@needs(Action.PUSH)
async def add_signatures(request: Request, name: str, digest: str) -> Response:
    """``POST /v2/<name>/_distsql/manifests/<digest>/signatures``: adds those of a document like the one of GET."""
    signed = Digest.parse(digest)
    values = read_document(await request.manifest()).get("signatures")
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ParameterInvalidError('Send {"signatures": [...]}: each in base64')
    try:
        signatures = [base64.b64decode(value, validate=True) for value in values]
    except (binascii.Error, ValueError):
        raise ParameterInvalidError("A signature is not base64 (RFC 4648, section 4)") from None
    await request.repository_of(name).signatures.put(signed, *signatures)
    return Response(204)


@needs(Action.PULL)
async def list_relations(request: Request, name: str, digest: str) -> Response:
    """``GET /v2/<name>/_distsql/manifests/<digest>/trust``: every signature of the content, whatever its kind."""
    found = await request.namespace.trust.signatures(request.full_name(name), Digest.parse(digest))
    relations = [
        {"kind": each.kind, "digest": str(each.digest), "created_at": each.created_at.isoformat()} for each in found
    ]
    return json_response(200, {"subject": digest, "signatures": relations})
