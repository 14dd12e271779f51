"""Conditional requests: content is named by its digest, so the entity tag is the digest (RFC 9110, section 13)."""

from __future__ import annotations

from distsql.api.requests import Request
from distsql.oci.digest import Digest


def not_modified(request: Request, digest: Digest) -> bool:
    """Whether ``If-None-Match`` says that the client has this content already."""
    header = request.header(b"if-none-match")
    if header is None:
        return False
    candidates = {each.strip().removeprefix("W/").strip('"') for each in header.split(",")}
    return "*" in candidates or str(digest) in candidates
