"""The catalogue's tables of what is in images' configs: read a moment after the push, for reports."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, ForeignKeyConstraint, PrimaryKeyConstraint, Table, Text, func

from distsql.sql.tables import metadata
from distsql.sql.types import DigestType


def _tenant_id() -> Column[int]:
    return Column("tenant_id", BigInteger, nullable=False, comment="The tenant: tenants.id.")


def _digest() -> Column[object]:
    return Column("digest", DigestType, nullable=False, comment="The config: blobs.digest.")


# No foreign key to the blob, whose deletion needn't know of it: a digest says the same whenever it comes again.
image_configs: Final = Table(
    "image_configs",
    metadata,
    _tenant_id(),
    _digest(),
    Column("read_at", DateTime(timezone=True), nullable=False, server_default=func.now(), comment="When it was read."),
    Column("problem", Text, comment="Why nothing was learned from it; null: its labels are in image_labels."),
    PrimaryKeyConstraint("tenant_id", "digest"),
    comment="Configs of images that were read.",
)

image_labels: Final = Table(
    "image_labels",
    metadata,
    _tenant_id(),
    _digest(),
    Column("key", Text(collation="C"), nullable=False, comment="Name of the label."),
    Column("value", Text, nullable=False, comment="Its text."),
    PrimaryKeyConstraint("tenant_id", "digest", "key"),
    ForeignKeyConstraint(
        ["tenant_id", "digest"], ["image_configs.tenant_id", "image_configs.digest"], ondelete="CASCADE"
    ),
    comment="Labels in the configs of images.",
)
