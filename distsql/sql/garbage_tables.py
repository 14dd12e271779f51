"""The catalogue's tables of what goes: what has to be looked at, what deleted things still need, and doomed bytes."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Interval,
    PrimaryKeyConstraint,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

from distsql.sql.columns import INSTANT, NOW, repository_id, tenant_id
from distsql.sql.tables import metadata
from distsql.sql.types import DigestType

KINDS: Final = ("layer", "blob", "manifest", "subject", "deleted_manifest", "repository", "tenant", "untagged")


# Only added to by those who push and delete, so nobody waits for anybody: the same thing may be in it several times.
garbage_queue: Final = Table(
    "garbage_queue",
    metadata,
    tenant_id(),
    # Random, as the audit's: a sequence is one more lock in every transaction.
    Column("id", BigInteger, nullable=False, comment="Tells entries apart; random."),
    Column(
        "kind",
        Text,
        nullable=False,
        comment="layer, manifest: came, or lost something that needed it; blob: left a repository; subject: was "
        "deleted, its referrers follow; deleted_manifest, repository, tenant: was deleted, its rows go; untagged: "
        "untagged manifests of the repository (0: of all) are collected from now on.",
    ),
    repository_id("The repository: repositories.id; 0 for what belongs to none."),
    Column("digest", DigestType, comment="The blob or manifest; none for a whole repository or tenant."),
    Column(
        "queued_at",
        INSTANT,
        nullable=False,
        server_default=NOW,
        comment="From here the grace, or the time in which it can be restored, is counted.",
    ),
    PrimaryKeyConstraint("tenant_id", "id"),
    CheckConstraint(f"kind in ({', '.join(map(repr, KINDS))})", name="kind"),
    Index("garbage_queue_queued_at_idx", "kind", "queued_at"),
    comment="What became unreferenced, written by the transaction that did it: what garbage collection has to look at.",
)

kept_references: Final = Table(
    "kept_references",
    metadata,
    tenant_id(),
    repository_id(),
    Column("manifest_digest", DigestType, nullable=False, comment="The deleted manifest: manifests.digest."),
    Column("digest", DigestType, nullable=False, comment="What it referred to, its subject too."),
    Column("deleted_at", INSTANT, nullable=False, server_default=NOW, comment="When the manifest was deleted."),
    # With the instant, so that adding never has to look for what an earlier deletion kept.
    PrimaryKeyConstraint("tenant_id", "repository_id", "manifest_digest", "digest", "deleted_at"),
    # Whether anything in the tenant needs a blob to be restored.
    Index("kept_references_digest_idx", "tenant_id", "digest"),
    comment="What deleted manifests need to be restored: it keeps blobs' bytes, and no reader sees it.",
)

condemned_bytes: Final = Table(
    "condemned_bytes",
    metadata,
    tenant_id(),
    Column("store_key", Text, nullable=False, comment="Where the byte store has them."),
    Column("digest", DigestType, comment="Of a blob; none for what an upload had collected."),
    Column("length", BigInteger, nullable=False, comment="In bytes."),
    Column("store_state", JSONB, comment="Of an upload that was not finished: what the byte store needs to end it."),
    Column("complete", Boolean, nullable=False, comment="Whether it is a blob's; else it is an unfinished upload's."),
    Column(
        "condemned_at",
        INSTANT,
        nullable=False,
        server_default=NOW,
        comment="Since when no row needs them: they go once a recovery window has passed.",
    ),
    PrimaryKeyConstraint("tenant_id", "store_key"),
    Index("condemned_bytes_condemned_at_idx", "condemned_at"),
    comment="Bytes to be deleted, committed before the byte store is touched. A key is never used again.",
)

garbage_periods: Final = Table(
    "garbage_periods",
    metadata,
    Column("tenant_id", BigInteger, nullable=False, comment="0: the server itself."),
    Column("grace", Interval, nullable=False, comment="How long something has to be unreferenced."),
    Column("restore_period", Interval, nullable=False, comment="How long what was deleted can be restored."),
    Column("recovery_window", Interval, nullable=False, comment="How long condemned bytes stay."),
    Column("ran_at", INSTANT, nullable=False, server_default=NOW, comment="When garbage was last collected."),
    PrimaryKeyConstraint("tenant_id"),
    comment="The periods that garbage collection goes by, as of its last run; one row, of tenant 0.",
)
