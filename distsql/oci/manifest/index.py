"""OCI indexes and Docker manifest lists, which have one shape (image specification, image-index.md)."""

from __future__ import annotations

from distsql.oci.manifest.descriptors import read_annotations, read_descriptors, read_subject, read_text
from distsql.oci.manifest.document import Document
from distsql.oci.manifest.parsed import Contents, Reference, Role
from distsql.oci.manifest.shapes import check_schema, refuse_other


def read_index(document: Document) -> Contents:
    """What an index says; `ManifestInvalidError` where it breaks the format. It may be empty.

    Whatever stands in ``manifests`` is a manifest, of any media type: other indexes too, and types yet to come.
    """
    check_schema(document, 2)
    refuse_other(document, "config", "layers")
    return Contents(
        parts=Reference.to_each(read_descriptors(document, "manifests"), Role.MANIFEST),
        subject=read_subject(document),
        annotations=read_annotations(document),
        artifact_type=read_text(document, "artifactType"),
    )
