"""What manifests refer to, and their annotations: statements that a push of a manifest adds its own with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Integer, Table, Text, select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.types import TypeEngine

from distsql.oci.descriptor import Descriptor, Platform
from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest
from distsql.sql.image_tables import manifest_labels
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import REPOSITORY_ID, TENANT_ID, Nothing, Statement, statement, unnested
from distsql.sql.tables import descriptors, manifest_annotations
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType

_DESCRIPTOR_COLUMNS: Final[dict[str, TypeEngine[Any]]] = {
    "manifest_digest": DigestType(),
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
    ["tenant_id", "repository_id", *_DESCRIPTOR_COLUMNS],
    select(TENANT_ID, REPOSITORY_ID, *(_new_descriptors.c[name] for name in _DESCRIPTOR_COLUMNS)),
)

INSERT_DESCRIPTORS: Final = statement(
    "insert_descriptors", "All references of manifests that are there again.", _referring, Nothing
)

_new_words = unnested({"manifest_digest": DigestType(), "key": Text(), "value": Text()})


def _insert_words(table: Table) -> Insert:
    return (
        insert(table)
        .from_select(
            ["tenant_id", "repository_id", "manifest_digest", "key", "value"],
            select(TENANT_ID, REPOSITORY_ID, *_new_words.c),
        )
        .on_conflict_do_nothing()  # of a manifest that was deleted they are still there
    )


INSERT_ANNOTATIONS: Final = statement(
    "insert_annotations", "All annotations of new manifests.", _insert_words(manifest_annotations), Nothing
)
INSERT_MANIFEST_LABELS: Final = statement(
    "insert_manifest_labels",
    "Labels of new images that have their config in their manifest.",
    _insert_words(manifest_labels),
    Nothing,
)

REFERENCES: Final = _referring.cte("referring")
"""What `descriptor_arrays` gives, for the statement that brings the manifests."""


def insert_references(tx: Transaction, repository: RepositoryRow, manifest: ParsedManifest) -> None:
    """All that a manifest refers to that is there again, and its annotations."""
    ids = {"tenant_id": repository.tenant_id, "repository_id": repository.id}
    tx.queue(INSERT_DESCRIPTORS, **ids, **descriptor_arrays([manifest]))
    insert_annotations(tx, repository, [manifest])


def insert_annotations(tx: Transaction, repository: RepositoryRow, made: Sequence[ParsedManifest]) -> None:
    """The annotations of new manifests, and labels that are in themselves: no table is locked for none."""
    _insert(tx, repository, INSERT_ANNOTATIONS, [(each.digest, each.annotations) for each in made])
    _insert(tx, repository, INSERT_MANIFEST_LABELS, [(each.digest, each.labels) for each in made])


def _insert(
    tx: Transaction,
    repository: RepositoryRow,
    inserting: Statement[Nothing],
    words: Sequence[tuple[Digest, Mapping[str, str]]],
) -> None:
    rows = [(digest, key, value) for digest, several in words for key, value in several.items()]
    if rows:
        digests, keys, values = zip(*rows, strict=True)
        ids = {"tenant_id": repository.tenant_id, "repository_id": repository.id}
        tx.queue(inserting, **ids, manifest_digests=digests, keys=keys, values=values)


def descriptor_arrays(made: Sequence[ParsedManifest]) -> dict[str, list[object]]:
    """All that the manifests refer to."""
    rows = [
        (manifest.digest, position, role, descriptor, required)
        for manifest in made
        for position, (role, descriptor, required) in enumerate(_list_references(manifest))
    ]
    platforms = [descriptor.platform or Platform() for _, _, _, descriptor, _ in rows]
    return {
        "manifest_digests": [digest for digest, _, _, _, _ in rows],
        "positions": [position for _, position, _, _, _ in rows],
        "roles": [role for _, _, role, _, _ in rows],
        "media_types": [descriptor.media_type for _, _, _, descriptor, _ in rows],
        "lengths": [descriptor.length for _, _, _, descriptor, _ in rows],
        "digests": [descriptor.digest for _, _, _, descriptor, _ in rows],
        "artifact_types": [descriptor.artifact_type for _, _, _, descriptor, _ in rows],
        "oss": [platform.os or None for platform in platforms],
        "architectures": [platform.architecture or None for platform in platforms],
        "variants": [platform.variant or None for platform in platforms],
        "requireds": [required for _, _, _, _, required in rows],
    }


def _list_references(manifest: ParsedManifest) -> list[tuple[str, Descriptor, bool]]:
    """Roles, descriptors, and whether they are required."""
    rows = [(part.role.value, part.descriptor, part.required) for part in manifest.parts]
    if manifest.subject:
        rows.append(("subject", manifest.subject, False))
    return rows
