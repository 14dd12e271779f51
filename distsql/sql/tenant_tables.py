"""The catalogue's tables of tenants: what they may do and use, and their repositories."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from distsql.sql.columns import INSTANT, NAME, NOW, counter, tenant_id

SERVER_TENANT_ID: Final = 0
"""The tenant of what belongs to no tenant."""

metadata: Final = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def _switch(name: str, comment: str, default: str = "false") -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=text(default), comment=comment)


def _immutable_tags() -> Column[list[str]]:
    return Column(
        "immutable_tags",
        ARRAY(Text),
        nullable=False,
        server_default=text("'{}'"),
        comment="Patterns of tags that are never moved nor deleted: * is any text, ? any character.",
    )


tenants: Final = Table(
    "tenants",
    metadata,
    Column("id", BigInteger, Identity(always=False), primary_key=True, comment="Joins with tenant_id everywhere."),
    Column(
        "name",
        NAME,
        unique=True,
        comment="First component of its repositories' names; a deleted tenant has none.",
    ),
    Column("created_at", INSTANT, nullable=False, server_default=NOW, comment="When its first repository came to be."),
    Column(
        "public",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="Whether everybody may pull from it without an account.",
    ),
    Column("suspended_at", INSTANT, comment="Since when its accounts hear that it is suspended, and nothing else."),
    Column("deleted_at", INSTANT, comment="When it was deleted: it is there for nobody, and its rows go later."),
    Column("deleted_name", NAME, comment="What it was called until it was deleted."),
    _switch("read_only", "Whether nothing may be written."),
    _switch("deletable", "Whether content may be deleted.", "true"),
    _switch("sparse", "Whether manifests may refer to children and layers that their repository lacks."),
    Column(
        "creators",
        Text,
        nullable=False,
        server_default=text("'push'"),
        comment="Which action a caller must be allowed to make a repository by a push: push or admin.",
    ),
    _immutable_tags(),
    Column(
        "untagged",
        Text,
        nullable=False,
        server_default=text("'keep'"),
        comment="What becomes of manifests without tag, parent and subject: keep, or collect.",
    ),
    Column("manifest_limit_bytes", BigInteger, comment="The largest manifest; no more than the server's limit."),
    Column("quota_bytes", BigInteger, comment="Most bytes of blobs, each content counted once; none is no limit."),
    Column("quota_repositories", BigInteger, comment="Most repositories."),
    Column("quota_manifests", BigInteger, comment="Most manifests."),
    Column("quota_tags", BigInteger, comment="Most live tags."),
    Column("store", NAME, comment="Where its pushes go: byte_stores.name; null: the settings' store."),
    CheckConstraint("(name is null) = (deleted_at is not null)", name="deleted_at"),
    CheckConstraint("creators in ('push', 'admin')", name="creators"),
    CheckConstraint("untagged in ('keep', 'collect')", name="untagged"),
    # Full names are listed in the order of the tenant's name with its slash: a-b/c comes before a/c.
    # With all that a list needs: the rows are wide.
    Index("tenants_prefix_idx", text("(name || '/'::text)"), postgresql_include=["id", "name"]),
    comment="Organisations: the first component of every repository's name. Tenant 0 is the server itself.",
)

byte_stores: Final = Table(
    "byte_stores",
    metadata,
    Column("tenant_id", BigInteger, nullable=False, comment="0: stores are the server's."),
    Column("name", NAME, nullable=False, comment="In front of its keys in blobs and uploads."),
    Column("url", Text, nullable=False, comment="Where it is, without any credentials."),
    Column("added_at", INSTANT, nullable=False, server_default=NOW, comment="When it was added."),
    PrimaryKeyConstraint("tenant_id", "name"),
    CheckConstraint("name ~ '^[a-z0-9][a-z0-9-]{0,39}$'", name="name"),
    comment="Byte stores beside the one that the settings name.",
)

repositories: Final = Table(
    "repositories",
    metadata,
    tenant_id(),
    Column(
        "id",
        BigInteger,
        Identity(always=False),
        nullable=False,
        comment="Joins with repository_id, together with tenant_id.",
    ),
    Column("path", NAME, nullable=False, comment="The name without the tenant and its slash."),
    Column(
        "sparse",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="Whether manifests may refer to children and layers that the repository lacks.",
    ),
    Column("created_at", INSTANT, nullable=False, server_default=NOW, comment="When it was first written to."),
    Column("named_at", INSTANT, comment="When it got its name by being renamed or restored; null: it always had it."),
    Column("deleted_at", INSTANT, comment="When it was deleted: it is there for nobody, and its rows go later."),
    Column("deleted_by", Text, comment="Who deleted it."),
    Column(
        "public",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="Whether everybody may pull from it without an account.",
    ),
    _switch("read_only", "Whether nothing may be written to it."),
    _switch("deletable", "Whether content may be deleted from it; the tenant has to allow it too.", "true"),
    _immutable_tags(),
    Column("untagged", Text, comment="What becomes of untagged manifests: keep, or collect; none: as the tenant says."),
    Column("purged_at", INSTANT, comment="Since when its rows are being taken out: it can't be restored any more."),
    counter("uncounted_manifests", "Manifests that were taken out of the tenant's usage when it was deleted."),
    counter("uncounted_tags", "Live tags that were taken out of the tenant's usage when it was deleted."),
    PrimaryKeyConstraint("tenant_id", "id"),
    ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
    CheckConstraint("untagged in ('keep', 'collect')", name="untagged"),
    # Partial, so that only questions about names use it. When most tenants have one repository PostgreSQL would
    # otherwise take it for any question with a tenant, foreign keys' among them, and read all of a large tenant's.
    Index("repositories_live_key", "tenant_id", "path", unique=True, postgresql_where=text("deleted_at is null")),
    comment="Repositories: the full name is the tenant's name, a slash and the path.",
)

# A few rows for each tenant, so that pushes don't wait for each other. What may still be added by a row without asking
# the others is in its free_ columns: pushes that would go below 0 gather what the others have (distsql.sql.usage).
tenant_usage: Final = Table(
    "tenant_usage",
    metadata,
    tenant_id(),
    Column("slot", Integer, nullable=False, comment="Each transaction counts in one of them; use is the sum."),
    counter("stored_bytes", "Bytes of live blobs that were added, less those that went."),
    counter("repositories", "Repositories that came, less those that were deleted."),
    counter("manifests", "Manifests that came, less those that were deleted."),
    counter("tags", "Live tags that came, less those that ended."),
    Column("free_bytes", BigInteger, comment="What may still be added here; none without a quota."),
    Column("free_repositories", BigInteger, comment="What may still be added here; none without a quota."),
    Column("free_manifests", BigInteger, comment="What may still be added here; none without a quota."),
    Column("free_tags", BigInteger, comment="What may still be added here; none without a quota."),
    PrimaryKeyConstraint("tenant_id", "slot"),
    *(
        CheckConstraint(f"free_{measure} >= 0", name=f"free_{measure}")
        for measure in ("bytes", "repositories", "manifests", "tags")
    ),
    # No foreign key to tenants, as blobs have none.
    comment="What a tenant uses, in several parts that are added up.",
)
