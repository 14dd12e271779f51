"""JSON manifests of any other media type: stored as they are, with what can be understood of them.

A registry takes manifests of formats that it doesn't know (distribution specification, "Pushing Manifests"). What is a
descriptor, in a place where all formats so far have descriptors, is a reference; the rest is not our concern.
"""

from __future__ import annotations

from typing import Final

from distsql.errors import ManifestInvalidError
from distsql.oci.descriptor import NO_ANNOTATIONS, Descriptor
from distsql.oci.manifest.descriptors import (
    check_length,
    read_annotations,
    read_descriptor,
    read_descriptors,
    read_text,
)
from distsql.oci.manifest.document import Document, Place
from distsql.oci.manifest.image import layer_reference
from distsql.oci.manifest.parsed import Contents, Reference, Role

# In this order they are the manifest's references. ``blobs`` is of the OCI artifact manifest, withdrawn but in use.
_LISTS: Final = {"layers": Role.LAYER, "blobs": Role.BLOB, "manifests": Role.MANIFEST}


def read_generic(document: Document) -> Contents:
    """What can be understood; `ManifestInvalidError` only when there is too much of it."""
    config = _descriptor_or_none(document.get("config"), ("config",))
    parts = [] if config is None else [Reference(Role.CONFIG, config)]
    for name, role in _LISTS.items():
        parts += _references(document, name, role)
    check_length(parts)
    try:
        annotations = read_annotations(document)
    except ManifestInvalidError:
        annotations = NO_ANNOTATIONS
    return Contents(
        parts=tuple(parts),
        subject=_descriptor_or_none(document.get("subject"), ("subject",)),
        annotations=annotations,
        artifact_type=_artifact_type(document),
        config_media_type=None if config is None else config.media_type,
    )


def _references(document: Document, name: str, role: Role) -> list[Reference]:
    """The references in a list, when it is one of descriptors; `ManifestInvalidError` when it is too long."""
    values = document.get(name)
    if not isinstance(values, list):
        return []
    check_length(values, (name,))
    try:
        found = read_descriptors(document, name)
    except ManifestInvalidError:
        return []
    return [layer_reference(item) if role is Role.LAYER else Reference(role, item) for item in found]


def _descriptor_or_none(value: object, at: Place) -> Descriptor | None:
    try:
        return read_descriptor(value, at)
    except ManifestInvalidError:
        return None


def _artifact_type(document: Document) -> str | None:
    try:
        return read_text(document, "artifactType")
    except ManifestInvalidError:
        return None
