"""The whole catalogue's metadata, with the tables of every module: what migrations are compared against."""

from __future__ import annotations

from distsql.sql import (
    access_tables,
    day_tables,
    garbage_tables,
    image_tables,
    pull_tables,
    retention_tables,
    seal_tables,
    tenant_tables,
    turn_tables,
    verification_tables,
    webhook_tables,
)
from distsql.sql.tables import metadata

__all__ = [
    "access_tables",
    "day_tables",
    "garbage_tables",
    "image_tables",
    "metadata",
    "pull_tables",
    "retention_tables",
    "seal_tables",
    "tenant_tables",
    "turn_tables",
    "verification_tables",
    "webhook_tables",
]
