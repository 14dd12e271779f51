"""The catalogue's table of seals: what proves that the audit is as it was written."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    func,
)

from distsql.sql.tables import metadata

_INSTANT = DateTime(timezone=True)

audit_seals: Final = Table(
    "audit_seals",
    metadata,
    Column("tenant_id", BigInteger, nullable=False, comment="The tenant: tenants.id."),
    Column("number", BigInteger, nullable=False, comment="1, 2, 3 ... in each tenant."),
    Column("from_at", _INSTANT, comment="Behind this instant its events begin: where the seal before ends."),
    Column("until_at", _INSTANT, nullable=False, comment="Up to this instant."),
    Column("events", BigInteger, nullable=False, comment="How many they are."),
    Column("content", LargeBinary, nullable=False, comment="SHA-256 of their hashes, in the order of at and id."),
    Column("root", LargeBinary, nullable=False, comment="SHA-256 of the root before, what the seal says, and content."),
    Column("sealed_at", _INSTANT, nullable=False, server_default=func.clock_timestamp(), comment="When it was made."),
    Column("exported_at", _INSTANT, comment="When its events were written to a file and dropped."),
    PrimaryKeyConstraint("tenant_id", "number"),
    CheckConstraint("events > 0", name="events"),
    Index("audit_seals_sealed_at_idx", "sealed_at"),
    comment="A hash chain over each tenant's audit, made after the fact; docs/operating.md says how it is checked.",
)
