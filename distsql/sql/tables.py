"""The catalogue's tables. Migrations are compared against this metadata, statements are written with it.

The tenant is first in every key, so that no key reaches across tenants. Digests are ``bytea``: the algorithm's byte
and the raw hash. Names sort by byte (``COLLATE "C"``).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from distsql.sql.types import DigestType

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

_NAME = Text(collation="C")
_INSTANT = DateTime(timezone=True)
_NOW = func.now()

tenants: Final = Table(
    "tenants",
    metadata,
    Column("id", BigInteger, Identity(always=False), primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),
    Column("created_at", _INSTANT, nullable=False, server_default=_NOW),
    comment="Organisations: the first component of every repository's name. Tenant 0 is the server itself.",
)

repositories: Final = Table(
    "repositories",
    metadata,
    Column("tenant_id", BigInteger, nullable=False),
    Column("id", BigInteger, Identity(always=False), nullable=False),
    Column("path", _NAME, nullable=False),
    Column("sparse", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", _INSTANT, nullable=False, server_default=_NOW),
    PrimaryKeyConstraint("tenant_id", "id"),
    UniqueConstraint("tenant_id", "path"),
    ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
    comment="Repositories: the full name is the tenant's name, a slash and the path.",
)

blobs: Final = Table(
    "blobs",
    metadata,
    Column("tenant_id", BigInteger, nullable=False),
    Column("digest", DigestType, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("store_key", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'live'")),
    Column("created_at", _INSTANT, nullable=False, server_default=_NOW),
    Column("condemned_at", _INSTANT),
    PrimaryKeyConstraint("tenant_id", "digest"),
    ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
    CheckConstraint("state in ('live', 'condemned', 'deleted')", name="state"),
    CheckConstraint("length >= 0", name="length"),
    # For the walk over the store that looks for bytes which no row names.
    Index("blobs_store_key_idx", "store_key"),
    Index("blobs_condemned_idx", "tenant_id", "digest", postgresql_where=text("state <> 'live'")),
    comment="Content of a tenant, once for each digest; store_key is where the byte store keeps it.",
)

layers: Final = Table(
    "layers",
    metadata,
    Column("tenant_id", BigInteger, nullable=False),
    Column("repository_id", BigInteger, nullable=False),
    Column("digest", DigestType, nullable=False),
    Column("needed_at", _INSTANT, nullable=False, server_default=_NOW),
    PrimaryKeyConstraint("tenant_id", "repository_id", "digest"),
    ForeignKeyConstraint(["tenant_id", "repository_id"], ["repositories.tenant_id", "repositories.id"]),
    ForeignKeyConstraint(["tenant_id", "digest"], ["blobs.tenant_id", "blobs.digest"]),
    Index("layers_digest_idx", "tenant_id", "digest"),
    comment="Which repository may see which blob.",
)

manifests: Final = Table(
    "manifests",
    metadata,
    Column("tenant_id", BigInteger, nullable=False),
    Column("repository_id", BigInteger, nullable=False),
    Column("digest", DigestType, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("artifact_type", Text),
    Column("config_media_type", Text),
    Column("subject_digest", DigestType),
    Column("length", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("pushed_at", _INSTANT, nullable=False, server_default=_NOW),
    Column("pushed_by", Text, nullable=False),
    PrimaryKeyConstraint("tenant_id", "repository_id", "digest"),
    ForeignKeyConstraint(["tenant_id", "repository_id"], ["repositories.tenant_id", "repositories.id"]),
    CheckConstraint("length = octet_length(payload)", name="length"),
    comment="Manifests with their exact payload.",
)

descriptors: Final = Table(
    "descriptors",
    metadata,
    Column("tenant_id", BigInteger, nullable=False),
    Column("repository_id", BigInteger, nullable=False),
    Column("manifest_digest", DigestType, nullable=False),
    Column("position", Integer, nullable=False),
    Column("role", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("digest", DigestType, nullable=False),
    Column("artifact_type", Text),
    Column("os", Text),
    Column("architecture", Text),
    Column("variant", Text),
    Column("required", Boolean, nullable=False),
    PrimaryKeyConstraint("tenant_id", "repository_id", "manifest_digest", "position"),
    ForeignKeyConstraint(
        ["tenant_id", "repository_id", "manifest_digest"],
        ["manifests.tenant_id", "manifests.repository_id", "manifests.digest"],
        ondelete="CASCADE",
    ),
    CheckConstraint("role in ('config', 'layer', 'manifest', 'blob', 'subject')", name="role"),
    # Both ways of asking who needs some content: in one repository, and in the whole tenant; and referrers in order.
    Index("descriptors_digest_idx", "tenant_id", "digest", "repository_id", "manifest_digest"),
    comment="What manifests refer to, in their order. A subject may be absent from the registry.",
)

# Not called `annotations`, which is what Python's __future__ import binds in every module.
manifest_annotations: Final = Table(
    "annotations",
    metadata,
    Column("tenant_id", BigInteger, nullable=False),
    Column("repository_id", BigInteger, nullable=False),
    Column("manifest_digest", DigestType, nullable=False),
    Column("key", _NAME, nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("tenant_id", "repository_id", "manifest_digest", "key"),
    ForeignKeyConstraint(
        ["tenant_id", "repository_id", "manifest_digest"],
        ["manifests.tenant_id", "manifests.repository_id", "manifests.digest"],
        ondelete="CASCADE",
    ),
    comment="Annotations of manifests.",
)

tags: Final = Table(
    "tags",
    metadata,
    Column("tenant_id", BigInteger, nullable=False),
    Column("repository_id", BigInteger, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("digest", DigestType, nullable=False),
    Column("valid_from", _INSTANT, nullable=False, server_default=func.clock_timestamp()),
    Column("valid_to", _INSTANT),
    Column("actor", Text, nullable=False),
    Column("ended_by", Text),
    # What the live row was before its last move: the move writes it into the history in the same statement.
    Column("previous_digest", DigestType),
    Column("previous_from", _INSTANT),
    Column("previous_actor", Text),
    # Null once ended, so that the foreign key binds live tags only and history outlives its manifests.
    Column(
        "live_digest",
        DigestType,
        Computed("CASE WHEN valid_to IS NULL THEN digest ELSE NULL::bytea END", persisted=True),
    ),
    PrimaryKeyConstraint("tenant_id", "repository_id", "name", "valid_from"),
    ForeignKeyConstraint(["tenant_id", "repository_id"], ["repositories.tenant_id", "repositories.id"]),
    ForeignKeyConstraint(
        ["tenant_id", "repository_id", "live_digest"],
        ["manifests.tenant_id", "manifests.repository_id", "manifests.digest"],
    ),
    CheckConstraint("valid_to > valid_from", name="period"),
    Index(
        "tags_live_key", "tenant_id", "repository_id", "name", unique=True, postgresql_where=text("valid_to is null")
    ),
    Index(
        "tags_live_digest_idx",
        "tenant_id",
        "repository_id",
        "live_digest",
        "name",
        postgresql_where=text("live_digest is not null"),
    ),
    comment="Live tags (valid_to is null) and everything that they ever pointed to.",
)

signatures: Final = Table(
    "signatures",
    metadata,
    Column("tenant_id", BigInteger, nullable=False),
    Column("repository_id", BigInteger, nullable=False),
    Column("manifest_digest", DigestType, nullable=False),
    Column("digest", DigestType, nullable=False),
    Column("id", BigInteger, Identity(always=False), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("created_at", _INSTANT, nullable=False, server_default=_NOW),
    PrimaryKeyConstraint("tenant_id", "repository_id", "manifest_digest", "digest"),
    ForeignKeyConstraint(
        ["tenant_id", "repository_id", "manifest_digest"],
        ["manifests.tenant_id", "manifests.repository_id", "manifests.digest"],
        ondelete="CASCADE",
    ),
    comment="JWS signatures of manifests, apart from the manifests; digest is that of the signature's bytes.",
)

uploads: Final = Table(
    "uploads",
    metadata,
    Column("tenant_id", BigInteger, nullable=False),
    Column("repository_id", BigInteger, nullable=False),
    Column("uuid", Uuid, nullable=False),
    Column("algorithm", Text, nullable=False),
    Column("offset_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("store_key", Text, nullable=False),
    Column("store_state", JSONB, nullable=False, server_default=text("'{}'")),
    Column("version", BigInteger, nullable=False, server_default=text("0")),
    Column("actor", Text, nullable=False),
    Column("started_at", _INSTANT, nullable=False, server_default=_NOW),
    Column("expires_at", _INSTANT, nullable=False),
    PrimaryKeyConstraint("tenant_id", "repository_id", "uuid"),
    ForeignKeyConstraint(["tenant_id", "repository_id"], ["repositories.tenant_id", "repositories.id"]),
    CheckConstraint("offset_bytes >= 0", name="offset_bytes"),
    Index("uploads_expires_at_idx", "expires_at"),
    Index("uploads_store_key_idx", "store_key"),
    comment="Upload sessions, whole: any process goes on with any of them.",
)

audit_events: Final = Table(
    "audit_events",
    metadata,
    Column("tenant_id", BigInteger, nullable=False),
    Column("at", _INSTANT, nullable=False, server_default=func.clock_timestamp()),
    # Only tells events of one instant apart. Random, by the statement: an identity column can't be partitioned before
    # PostgreSQL 17, and a sequence is one more lock in every transaction.
    Column("id", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("repository", _NAME),
    Column("reference", Text),
    Column("digest", DigestType),
    Column("outcome", Text, nullable=False, server_default=text("'done'")),
    Column("client_address", Text, nullable=False, server_default=text("''")),
    Column("user_agent", Text, nullable=False, server_default=text("''")),
    Column("request_id", Text, nullable=False, server_default=text("''")),
    PrimaryKeyConstraint("tenant_id", "at", "id"),
    CheckConstraint("outcome in ('done', 'refused')", name="outcome"),
    comment="Every change, written in its transaction; partitioned by month.",
    postgresql_partition_by="RANGE (at)",
)
