"""The catalogue's tables of what is in images' configs: read a moment after the push, for reports, or with it."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, ForeignKeyConstraint, PrimaryKeyConstraint, Table, Text

from distsql.sql.columns import INSTANT, NAME, NOW, repository_id, tenant_id
from distsql.sql.tables import metadata
from distsql.sql.types import DigestType


def _digest() -> Column[object]:
    return Column("digest", DigestType, nullable=False, comment="The config: blobs.digest.")


# No foreign key to the blob, whose deletion needn't know of it: a digest says the same whenever it comes again.
image_configs: Final = Table(
    "image_configs",
    metadata,
    tenant_id(),
    _digest(),
    Column("read_at", INSTANT, nullable=False, server_default=NOW, comment="When it was read."),
    Column("problem", Text, comment="Why nothing was learned from it; null: its labels are in image_labels."),
    PrimaryKeyConstraint("tenant_id", "digest"),
    comment="Configs of images that were read.",
)

image_labels: Final = Table(
    "image_labels",
    metadata,
    tenant_id(),
    _digest(),
    Column("key", NAME, nullable=False, comment="Name of the label."),
    Column("value", Text, nullable=False, comment="Its text."),
    PrimaryKeyConstraint("tenant_id", "digest", "key"),
    ForeignKeyConstraint(
        ["tenant_id", "digest"], ["image_configs.tenant_id", "image_configs.digest"], ondelete="CASCADE"
    ),
    comment="Labels in the configs of images.",
)

# No foreign key to the manifest either: whoever takes manifests away would have to lock this table too, for a format
# that few have. A manifest that comes again says the same.
manifest_labels: Final = Table(
    "manifest_labels",
    metadata,
    tenant_id(),
    repository_id(),
    Column("manifest_digest", DigestType, nullable=False, comment="The manifest: manifests.digest."),
    Column("key", NAME, nullable=False, comment="Name of the label."),
    Column("value", Text, nullable=False, comment="Its text."),
    PrimaryKeyConstraint("tenant_id", "repository_id", "manifest_digest", "key"),
    comment="Labels of images that have their config in their manifest: Docker schema 1. Written with the push.",
)
