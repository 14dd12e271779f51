"""The catalogue's tables of verification: how far it is, and what it found. Of the server: tenant 0."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from distsql.sql.columns import INSTANT, NOW
from distsql.sql.tables import metadata
from distsql.sql.types import DigestType

PHASES: Final = ("blobs", "manifests", "usage", "orphans", "done")


def _number(name: str, comment: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"), comment=comment)


def _server() -> Column[int]:
    return Column("tenant_id", BigInteger, nullable=False, comment="0: the server itself.")


verifications: Final = Table(
    "verifications",
    metadata,
    _server(),
    Column("id", BigInteger, Identity(always=False), nullable=False, comment="Joins with verification_id."),
    Column("rehashes", Boolean, nullable=False, comment="Whether all bytes are read."),
    Column("started_at", INSTANT, nullable=False, server_default=NOW, comment="When it began."),
    Column("saved_at", INSTANT, nullable=False, server_default=NOW, comment="This is as of then."),
    _number("version", "Counts who wrote: of two processes at once the first finds another one, and stops."),
    Column("phase", Text, nullable=False, server_default=text("'blobs'"), comment="What it is at."),
    Column("after_tenant_id", BigInteger, nullable=False, server_default=text("-1"), comment="Behind this key."),
    Column("after_repository_id", BigInteger, nullable=False, server_default=text("-1"), comment="Behind this key."),
    Column("after_digest", DigestType, comment="Behind this key; none at the beginning."),
    _number("blobs", "Verified so far."),
    _number("manifests", "Verified so far."),
    _number("bytes", "Read so far."),
    PrimaryKeyConstraint("tenant_id", "id"),
    CheckConstraint(f"phase in ({', '.join(map(repr, PHASES))})", name="phase"),
    comment="The last verification of catalogue against store: one that was stopped goes on from here.",
)

verification_findings: Final = Table(
    "verification_findings",
    metadata,
    _server(),
    Column("verification_id", BigInteger, nullable=False, comment="The verification: verifications.id."),
    Column("kind", Text, nullable=False, comment="What is wrong: missing, length, content, payload, reference ..."),
    Column("subject", Text, nullable=False, comment="With what."),
    Column("explanation", Text, nullable=False, comment="In words."),
    Column("mended", Boolean, nullable=False, server_default=text("false"), comment="Whether it is right again."),
    Column("blob_tenant_id", BigInteger, comment="Of a blob: its tenant, tenants.id."),
    Column("digest", DigestType, comment="Of a blob."),
    Column("found_at", INSTANT, nullable=False, server_default=NOW, comment="When."),
    PrimaryKeyConstraint("tenant_id", "verification_id", "kind", "subject"),
    ForeignKeyConstraint(
        ["tenant_id", "verification_id"], ["verifications.tenant_id", "verifications.id"], ondelete="CASCADE"
    ),
    comment="What the last verification found.",
)

retention_runs: Final = Table(
    "retention_runs",
    metadata,
    _server(),
    Column("ran_at", INSTANT, nullable=False, comment="When some server last ran all policies."),
    PrimaryKeyConstraint("tenant_id"),
    comment="When retention was last run; one row, of tenant 0.",
)
