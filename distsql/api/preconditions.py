"""Conditions of a request: content is named by its digest, so the entity tag is the digest (RFC 9110, section 13)."""

from __future__ import annotations

from distsql.api.requests import ParameterInvalidError, Request
from distsql.api.responses import Header, header
from distsql.oci.digest import Digest
from distsql.values import ANY, Anything


def not_modified(request: Request, digest: Digest) -> bool:
    """Whether ``If-None-Match`` says that the client has this content already."""
    header = request.header(b"if-none-match")
    if header is None:
        return False
    candidates = {each.strip().removeprefix("W/").strip('"') for each in header.split(",")}
    return "*" in candidates or str(digest) in candidates


def expected_digest(request: Request) -> Digest | Anything | None:
    """What a write expects: the digest in ``If-Match``, nothing (``If-None-Match: *``), or whatever there is."""
    current, absent = request.header(b"if-match"), request.header(b"if-none-match")
    if absent is not None:
        if absent != "*" or current is not None:
            raise ParameterInvalidError("Give either If-Match with one digest in quotes, or If-None-Match: *")
        return None
    return ANY if current is None else Digest.parse(current.strip('"'))


def entity_tag(digest: Digest) -> Header:
    """The entity tag of what has this digest."""
    return header(b"etag", f'"{digest}"')


def forced(request: Request) -> bool:
    """Whether a deletion is to happen although something live needs what is deleted (PROTOCOL 5.2)."""
    return request.parameter("force") == "true"
