"""Which format a document is of: what the header says, what the body says, and what it looks like.

The three have to agree, for whoever reads the manifest without one of them must not see another manifest
(CVE-2021-41190; distribution specification, "Pushing Manifests"; image specification, manifest.md, "mediaType").
"""

from __future__ import annotations

from typing import Final

from distsql.oci.manifest.document import Document, malformed
from distsql.oci.manifest.media_types import (
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    JSON,
    OCI_IMAGE,
    OCI_INDEX,
    check_media_type,
    without_parameters,
)

# Fields that decide what a manifest is.
_DECIDING: Final = ("schemaVersion", "mediaType", "config", "layers", "manifests", "signatures", "fsLayers")
_FOLDED: Final = {name.casefold(): name for name in _DECIDING}


def settle_media_type(document: Document, content_type: str | None) -> str:
    """The manifest's media type: the header's, else the body's, else that of its shape.

    Raises `ManifestInvalidError` when header and body differ, or nothing tells.
    """
    header = without_parameters(content_type)
    header = header and check_media_type(header)
    body = document.get("mediaType")
    if body is not None and body != "":
        if not isinstance(body, str):
            raise malformed("must be a string", ("mediaType",))
        check_media_type(body)
        if header and header.lower() != body.lower():
            raise malformed(f"is {body!r}, but the Content-Type is {header!r}: they must be equal", ("mediaType",))
    # Docker before 1.10 pushes schema 1 as plain JSON.
    if header and not (header.lower() == JSON and is_schema(document, 1)):
        return header
    return body or _guess(document)


def _guess(document: Document) -> str:
    """The media type of a document that doesn't say, by its shape as distribution and the OCI libraries do it."""
    if is_schema(document, 1):
        return DOCKER_SCHEMA1_SIGNED if document.get("signatures") else DOCKER_SCHEMA1
    # What is null counts only when nothing else tells: Go writes an empty index as "manifests": null.
    for names in ({name for name, value in document.items() if value is not None}, set(document)):
        if "manifests" in names:
            return OCI_INDEX
        if names & {"config", "layers"}:
            return OCI_IMAGE
    raise malformed("nothing tells the manifest's media type: send a Content-Type")


def is_schema(document: Document, version: int) -> bool:
    """Whether the document says that it is of this schema version; True is no version, and 2.0 neither."""
    value = document.get("schemaVersion")
    return type(value) is int and value == version


def check_schema(document: Document, version: int) -> None:
    """The version is required (image specification, manifest.md, "schemaVersion"): else `ManifestInvalidError`."""
    if not is_schema(document, version):
        problem = "must be" if "schemaVersion" in document else "is missing: it must be"
        raise malformed(f"{problem} {version} for this media type", ("schemaVersion",))


def refuse_other(document: Document, *names: str) -> None:
    """Refuses fields that make the document another kind of manifest as well (CVE-2021-41190).

    Names in another case are refused too: Go programs read ``Manifests`` as ``manifests``.
    """
    for name in names:
        if document.get(name) is not None:
            raise malformed("this media type has no such field: a manifest is of one kind", (name,))
    for name in document:
        meant = _FOLDED.get(name.casefold(), name)
        if meant != name:
            raise malformed(f"write {meant}: some programs read names without regard to case", (name[:80],))
