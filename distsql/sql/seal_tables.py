"""The catalogue's table of seals: what proves that the audit is as it was written."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    func,
)

from distsql.sql.columns import INSTANT, tenant_id
from distsql.sql.tables import metadata

audit_seals: Final = Table(
    "audit_seals",
    metadata,
    tenant_id(),
    Column("number", BigInteger, nullable=False, comment="1, 2, 3 ... in each tenant."),
    Column("from_at", INSTANT, comment="Behind this instant its events begin: where the seal before ends."),
    Column("until_at", INSTANT, nullable=False, comment="Up to this instant."),
    Column("events", BigInteger, nullable=False, comment="How many they are."),
    Column("content", LargeBinary, nullable=False, comment="SHA-256 of their hashes, in the order of at and id."),
    Column("root", LargeBinary, nullable=False, comment="SHA-256 of the root before, what the seal says, and content."),
    Column("sealed_at", INSTANT, nullable=False, server_default=func.clock_timestamp(), comment="When it was made."),
    Column("exported_at", INSTANT, comment="When its events were written to a file and dropped."),
    PrimaryKeyConstraint("tenant_id", "number"),
    CheckConstraint("events > 0", name="events"),
    Index("audit_seals_sealed_at_idx", "sealed_at"),
    comment="A hash chain over each tenant's audit, made after the fact; docs/operating.md says how it is checked.",
)
