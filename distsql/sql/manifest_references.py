"""What manifests refer to, and their annotations: statements that a push of a manifest adds its own with."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Integer, Table, Text, select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.types import TypeEngine

from distsql.oci.descriptor import Platform
from distsql.oci.manifest import ParsedManifest
from distsql.sql.database import Transaction
from distsql.sql.image_tables import manifest_labels
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import DIGEST, REPOSITORY_ID, TENANT_ID, Nothing, statement, unnested
from distsql.sql.tables import descriptors, manifest_annotations
from distsql.sql.types import DigestType

_DESCRIPTOR_COLUMNS: Final[dict[str, TypeEngine[Any]]] = {
    "position": Integer(),
    "role": Text(),
    "media_type": Text(),
    "length": BigInteger(),
    "digest": DigestType(),
    "artifact_type": Text(),
    "os": Text(),
    "architecture": Text(),
    "variant": Text(),
    "required": Boolean(),
}
_new_descriptors = unnested(_DESCRIPTOR_COLUMNS)

_referring = insert(descriptors).from_select(
    ["tenant_id", "repository_id", "manifest_digest", *_DESCRIPTOR_COLUMNS],
    select(TENANT_ID, REPOSITORY_ID, DIGEST, *(_new_descriptors.c[name] for name in _DESCRIPTOR_COLUMNS)),
)

INSERT_DESCRIPTORS: Final = statement(
    "insert_descriptors", "All references of a manifest that is there again.", _referring, Nothing
)

_new_words = unnested({"key": Text(), "value": Text()})


def _insert_words(table: Table) -> Insert:
    return (
        insert(table)
        .from_select(
            ["tenant_id", "repository_id", "manifest_digest", "key", "value"],
            select(TENANT_ID, REPOSITORY_ID, DIGEST, _new_words.c.key, _new_words.c.value),
        )
        .on_conflict_do_nothing()  # of a manifest that was deleted they are still there
    )


INSERT_ANNOTATIONS: Final = statement(
    "insert_annotations", "All annotations of a new manifest.", _insert_words(manifest_annotations), Nothing
)
INSERT_MANIFEST_LABELS: Final = statement(
    "insert_manifest_labels",
    "Labels of a new image that has its config in its manifest.",
    _insert_words(manifest_labels),
    Nothing,
)

REFERENCES: Final = _referring.cte("referring")
"""What `descriptor_arrays` gives, for the statement that brings the manifest."""


def insert_references(tx: Transaction, repository: RepositoryRow, manifest: ParsedManifest) -> None:
    """All that a new manifest refers to, and its annotations."""
    owner = {"tenant_id": repository.tenant_id, "repository_id": repository.id, "digest": manifest.digest}
    tx.queue(INSERT_DESCRIPTORS, **owner, **descriptor_arrays(manifest))
    insert_annotations(tx, repository, manifest)


def insert_annotations(tx: Transaction, repository: RepositoryRow, manifest: ParsedManifest) -> None:
    """The annotations of a new manifest, and labels that are in itself: no table is locked for none."""
    owner = {"tenant_id": repository.tenant_id, "repository_id": repository.id, "digest": manifest.digest}
    for each, words in ((INSERT_ANNOTATIONS, manifest.annotations), (INSERT_MANIFEST_LABELS, manifest.labels)):
        if words:
            tx.queue(each, **owner, keys=list(words), values=list(words.values()))


def descriptor_arrays(manifest: ParsedManifest) -> dict[str, list[object]]:
    """All that the manifest refers to."""
    rows = [(part.role.value, part.descriptor, part.required) for part in manifest.parts]
    if manifest.subject:
        rows.append(("subject", manifest.subject, False))
    platforms = [descriptor.platform or Platform() for _, descriptor, _ in rows]
    return {
        "positions": list(range(len(rows))),
        "roles": [role for role, _, _ in rows],
        "media_types": [descriptor.media_type for _, descriptor, _ in rows],
        "lengths": [descriptor.length for _, descriptor, _ in rows],
        "digests": [descriptor.digest for _, descriptor, _ in rows],
        "artifact_types": [descriptor.artifact_type for _, descriptor, _ in rows],
        "oss": [platform.os or None for platform in platforms],
        "architectures": [platform.architecture or None for platform in platforms],
        "variants": [platform.variant or None for platform in platforms],
        "requireds": [required for _, _, required in rows],
    }
