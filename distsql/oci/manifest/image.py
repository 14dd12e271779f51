"""OCI images and Docker schema 2, which have one shape (image specification, manifest.md)."""

from __future__ import annotations

from distsql.oci.descriptor import Descriptor
from distsql.oci.manifest.descriptors import (
    read_annotations,
    read_descriptor,
    read_descriptors,
    read_subject,
    read_text,
)
from distsql.oci.manifest.document import Document, malformed
from distsql.oci.manifest.media_types import NON_DISTRIBUTABLE
from distsql.oci.manifest.parsed import Contents, Reference, Role
from distsql.oci.manifest.shapes import check_schema, refuse_other


def read_image(document: Document) -> Contents:
    """What an image says; `ManifestInvalidError` where it breaks the format. Layers may be none."""
    check_schema(document, 2)
    refuse_other(document, "manifests")
    if document.get("config") is None:
        raise malformed("is missing: an image has a config", ("config",))
    config = read_descriptor(document["config"], ("config",))
    layers = read_descriptors(document, "layers")
    return Contents(
        parts=(Reference(Role.CONFIG, config), *map(layer_reference, layers)),
        subject=read_subject(document),
        annotations=read_annotations(document),
        # Distribution specification, "Listing Referrers": without an artifactType, the config's media type is it.
        artifact_type=read_text(document, "artifactType") or config.media_type,
        config_media_type=config.media_type,
    )


def layer_reference(layer: Descriptor) -> Reference:
    """A layer, which the registry may lack when it is non-distributable."""
    return Reference(Role.LAYER, layer, layer.media_type not in NON_DISTRIBUTABLE)
