"""The catalogue: tenants, repositories, content, tags with their history, uploads, signatures, audit.

Revises nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# For people who ask in SQL: digests as clients write them.
DIGEST_TEXT = """
create function digest_text(digest bytea) returns text language sql immutable strict parallel safe
return case get_byte(digest, 0) when 1 then 'sha256:' when 2 then 'sha512:' end || encode(substr(digest, 2), 'hex')
"""


def upgrade() -> None:
    """Makes the catalogue from nothing."""
    op.create_table(
        "audit_events",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(collation="C"), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column("outcome", sa.Text(), server_default=sa.text("'done'"), nullable=False),
        sa.Column("client_address", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("user_agent", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("request_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint("outcome in ('done', 'refused')", name=op.f("audit_events_outcome_check")),
        sa.PrimaryKeyConstraint("tenant_id", "at", "id", name="audit_events_pkey"),
        comment="Every change, written in its transaction; partitioned by month.",
        postgresql_partition_by="RANGE (at)",
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="tenants_pkey"),
        sa.UniqueConstraint("name", name="tenants_name_key"),
        comment="Organisations: the first component of every repository's name. Tenant 0 is the server itself.",
    )
    op.create_table(
        "blobs",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("store_key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'live'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("condemned_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state in ('live', 'condemned', 'deleted')", name=op.f("blobs_state_check")),
        sa.CheckConstraint("length >= 0", name=op.f("blobs_length_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="blobs_tenant_id_fkey"),
        sa.PrimaryKeyConstraint("tenant_id", "digest", name="blobs_pkey"),
        comment="Content of a tenant, once for each digest; store_key is where the byte store keeps it.",
    )
    op.create_index("blobs_store_key_idx", "blobs", ["store_key"], unique=False)
    op.create_index(
        "blobs_condemned_idx",
        "blobs",
        ["tenant_id", "digest"],
        unique=False,
        postgresql_where=sa.text("state <> 'live'"),
    )
    op.create_table(
        "repositories",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("path", sa.Text(collation="C"), nullable=False),
        sa.Column("sparse", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="repositories_tenant_id_fkey"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="repositories_pkey"),
        sa.UniqueConstraint("tenant_id", "path", name="repositories_tenant_id_path_key"),
        comment="Repositories: the full name is the tenant's name, a slash and the path.",
    )
    op.create_table(
        "layers",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("needed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "digest"], ["blobs.tenant_id", "blobs.digest"], name="layers_tenant_id_digest_fkey"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "repository_id"],
            ["repositories.tenant_id", "repositories.id"],
            name="layers_tenant_id_repository_id_fkey",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "repository_id", "digest", name="layers_pkey"),
        comment="Which repository may see which blob.",
    )
    op.create_index("layers_digest_idx", "layers", ["tenant_id", "digest"], unique=False)
    op.create_table(
        "manifests",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("artifact_type", sa.Text(), nullable=True),
        sa.Column("config_media_type", sa.Text(), nullable=True),
        sa.Column("subject_digest", sa.LargeBinary(), nullable=True),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("pushed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("pushed_by", sa.Text(), nullable=False),
        sa.CheckConstraint("length = octet_length(payload)", name=op.f("manifests_length_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "repository_id"],
            ["repositories.tenant_id", "repositories.id"],
            name="manifests_tenant_id_repository_id_fkey",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "repository_id", "digest", name="manifests_pkey"),
        comment="Manifests with their exact payload.",
    )
    op.create_table(
        "uploads",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("uuid", sa.Uuid(), nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("offset_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("store_key", sa.Text(), nullable=False),
        sa.Column(
            "store_state", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("offset_bytes >= 0", name=op.f("uploads_offset_bytes_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "repository_id"],
            ["repositories.tenant_id", "repositories.id"],
            name="uploads_tenant_id_repository_id_fkey",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "repository_id", "uuid", name="uploads_pkey"),
        comment="Upload sessions, whole: any process goes on with any of them.",
    )
    op.create_index("uploads_store_key_idx", "uploads", ["store_key"], unique=False)
    op.create_index("uploads_expires_at_idx", "uploads", ["expires_at"], unique=False)
    op.create_table(
        "annotations",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("manifest_digest", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "repository_id", "manifest_digest"],
            ["manifests.tenant_id", "manifests.repository_id", "manifests.digest"],
            name="annotations_tenant_id_repository_id_manifest_digest_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "repository_id", "manifest_digest", "key", name="annotations_pkey"),
        comment="Annotations of manifests.",
    )
    op.create_table(
        "descriptors",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("manifest_digest", sa.LargeBinary(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("artifact_type", sa.Text(), nullable=True),
        sa.Column("os", sa.Text(), nullable=True),
        sa.Column("architecture", sa.Text(), nullable=True),
        sa.Column("variant", sa.Text(), nullable=True),
        sa.Column("required", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "role in ('config', 'layer', 'manifest', 'blob', 'subject')", name=op.f("descriptors_role_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "repository_id", "manifest_digest"],
            ["manifests.tenant_id", "manifests.repository_id", "manifests.digest"],
            name="descriptors_tenant_id_repository_id_manifest_digest_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "repository_id", "manifest_digest", "position", name="descriptors_pkey"),
        comment="What manifests refer to, in their order. A subject may be absent from the registry.",
    )
    op.create_index(
        "descriptors_digest_idx",
        "descriptors",
        ["tenant_id", "digest", "repository_id", "manifest_digest"],
        unique=False,
    )
    op.create_table(
        "signatures",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("manifest_digest", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "repository_id", "manifest_digest"],
            ["manifests.tenant_id", "manifests.repository_id", "manifests.digest"],
            name="signatures_tenant_id_repository_id_manifest_digest_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "repository_id", "manifest_digest", "digest", name="signatures_pkey"),
        comment="JWS signatures of manifests, apart from the manifests; digest is that of the signature's bytes.",
    )
    op.create_table(
        "tags",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column(
            "valid_from", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("previous_digest", sa.LargeBinary(), nullable=True),
        sa.Column("previous_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("previous_actor", sa.Text(), nullable=True),
        sa.Column(
            "live_digest",
            sa.LargeBinary(),
            sa.Computed("CASE WHEN valid_to IS NULL THEN digest ELSE NULL::bytea END", persisted=True),
            nullable=True,
        ),
        sa.CheckConstraint("valid_to > valid_from", name=op.f("tags_period_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "repository_id", "live_digest"],
            ["manifests.tenant_id", "manifests.repository_id", "manifests.digest"],
            name="tags_tenant_id_repository_id_live_digest_fkey",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "repository_id"],
            ["repositories.tenant_id", "repositories.id"],
            name="tags_tenant_id_repository_id_fkey",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "repository_id", "name", "valid_from", name="tags_pkey"),
        comment="Live tags (valid_to is null) and everything that they ever pointed to.",
    )
    op.create_index(
        "tags_live_digest_idx",
        "tags",
        ["tenant_id", "repository_id", "live_digest", "name"],
        unique=False,
        postgresql_where=sa.text("live_digest is not null"),
    )
    op.create_index(
        "tags_live_key",
        "tags",
        ["tenant_id", "repository_id", "name"],
        unique=True,
        postgresql_where=sa.text("valid_to is null"),
    )
    # Payloads are read whole and often: never compressed, and in the row itself up to a page.
    op.execute("alter table manifests alter column payload set storage external")
    op.execute("alter table manifests set (toast_tuple_target = 8160)")
    # Months that nobody made ahead: an insert must never fail for want of a partition.
    op.execute("create table audit_events_rest partition of audit_events default")
    op.execute("insert into tenants (id, name) values (0, '')")
    op.execute(DIGEST_TEXT)


def downgrade() -> None:
    """Drops the catalogue with all that is in it."""
    op.execute("drop function digest_text(bytea)")
    op.drop_index("tags_live_key", table_name="tags", postgresql_where=sa.text("valid_to is null"))
    op.drop_index("tags_live_digest_idx", table_name="tags", postgresql_where=sa.text("live_digest is not null"))
    op.drop_table("tags")
    op.drop_table("signatures")
    op.drop_index("descriptors_digest_idx", table_name="descriptors")
    op.drop_table("descriptors")
    op.drop_table("annotations")
    op.drop_index("uploads_expires_at_idx", table_name="uploads")
    op.drop_index("uploads_store_key_idx", table_name="uploads")
    op.drop_table("uploads")
    op.drop_table("manifests")
    op.drop_index("layers_digest_idx", table_name="layers")
    op.drop_table("layers")
    op.drop_table("repositories")
    op.drop_index("blobs_condemned_idx", table_name="blobs", postgresql_where=sa.text("state <> 'live'"))
    op.drop_index("blobs_store_key_idx", table_name="blobs")
    op.drop_table("blobs")
    op.drop_table("tenants")
    op.drop_table("audit_events")
