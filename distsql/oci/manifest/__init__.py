"""Manifests: bytes in, a value out that says what the manifest is and needs. One file per family of formats.

The payload is never changed and never written anew (distribution specification, "Pushing Manifests": stored and served
exactly as pushed).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from distsql.errors import DigestInvalidError
from distsql.oci.digest import Digest
from distsql.oci.manifest.document import Document, read_document
from distsql.oci.manifest.generic import read_generic
from distsql.oci.manifest.image import read_image
from distsql.oci.manifest.index import read_index
from distsql.oci.manifest.media_types import (
    DOCKER_IMAGE,
    DOCKER_LIST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    IMAGES,
    INDEXES,
    NON_DISTRIBUTABLE,
    OCI_IMAGE,
    OCI_INDEX,
    SCHEMA1,
)
from distsql.oci.manifest.parsed import Contents, ParsedManifest, Reference, Role
from distsql.oci.manifest.plain import read_plain_index
from distsql.oci.manifest.schema1 import read_schema1
from distsql.oci.manifest.shapes import settle_media_type

__all__ = [
    "DOCKER_IMAGE",
    "DOCKER_LIST",
    "DOCKER_SCHEMA1",
    "DOCKER_SCHEMA1_SIGNED",
    "IMAGES",
    "INDEXES",
    "NON_DISTRIBUTABLE",
    "OCI_IMAGE",
    "OCI_INDEX",
    "SCHEMA1",
    "ParsedManifest",
    "Reference",
    "Role",
    "parse",
]

_LARGE: Final = 64 * 1024


def parse(payload: bytes, media_type: str | None = None, digest: Digest | None = None) -> ParsedManifest:
    """Reads a manifest, in time and memory bounded by its length.

    ``media_type`` is a Content-Type value, whose parameters don't matter; without one, the body's ``mediaType`` or its
    shape decides. With a ``digest``, the content must match it, and it is the manifest's; else sha256 is.

    Raises `ManifestInvalidError` (what is wrong, and where), `DigestInvalidError` when the content doesn't match, and
    `ManifestUnverifiedError` for a signed schema 1 manifest without signatures, or with those of another text.
    """
    # Only a manifest with signatures may have another digest than its payload, and that is known when it is read;
    # for all others the digest comes first, so that damaged content is damaged content and not bad JSON.
    early = b'"signatures"' not in payload
    if digest is not None and early:
        _check_digest(payload, digest)
    with _collector_paused(payload):
        document = read_plain_index(payload) or read_document(payload)
        settled = settle_media_type(document, media_type)
        contents = _read(document, payload, settled)
    canonical = payload if contents.canonical is None else contents.canonical
    if digest is not None and not (early and canonical is payload):
        _check_digest(canonical, digest)
    return ParsedManifest(
        media_type=settled,
        payload=payload,
        digest=digest or Digest.of(canonical),
        canonical=canonical,
        parts=contents.parts,
        subject=contents.subject,
        annotations=contents.annotations,
        artifact_type=contents.artifact_type,
        config_media_type=contents.config_media_type,
        labels=contents.labels,
        signatures=contents.signatures,
        declared_name=contents.declared_name,
        declared_tag=contents.declared_tag,
    )


def _read(document: Document, payload: bytes, media_type: str) -> Contents:
    """The document as its family of formats reads it; media types have no case (RFC 9110, section 8.3.1)."""
    kind = media_type.lower()
    if kind in IMAGES:
        return read_image(document)
    if kind in INDEXES:
        return read_index(document)
    if kind in SCHEMA1:
        return read_schema1(document, payload, signed=kind == DOCKER_SCHEMA1_SIGNED)
    return read_generic(document)


@contextmanager
def _collector_paused(payload: bytes) -> Iterator[None]:
    """A large index makes 100,000 objects: looking for cycles among them takes a quarter of the time, and finds none.

    When several threads parse at once, it goes on with the first that ends.
    """
    pause = len(payload) > _LARGE and gc.isenabled()
    if pause:
        gc.disable()
    try:
        yield
    finally:
        if pause:
            gc.enable()


def _check_digest(content: bytes, digest: Digest) -> None:
    if not digest.verifies(content):
        found = Digest.of(content, digest.algorithm)
        raise DigestInvalidError(
            f"the manifest's content has the digest {found}, not {digest}",
            detail={"digest": str(digest), "content": str(found)},
        )
