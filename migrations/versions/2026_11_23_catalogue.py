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

INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("now()")

# For people who ask in SQL: digests as clients write them.
DIGEST_TEXT = """
create function digest_text(digest bytea) returns text language sql immutable strict parallel safe
return case get_byte(digest, 0) when 1 then 'sha256:' when 2 then 'sha512:' end || encode(substr(digest, 2), 'hex')
"""


def upgrade() -> None:
    """Makes the catalogue from nothing."""
    op.create_table(
        "audit_events",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("at", INSTANT, server_default=sa.text("clock_timestamp()"), nullable=False, comment="When."),
        sa.Column("id", sa.BigInteger(), nullable=False, comment="Tells events of one instant apart; random."),
        sa.Column("actor", sa.Text(), nullable=False, comment="Who."),
        sa.Column("action", sa.Text(), nullable=False, comment="What was done: manifest.put, tag.delete ..."),
        sa.Column("repository", sa.Text(collation="C"), nullable=True, comment="Full name of the repository."),
        sa.Column("reference", sa.Text(), nullable=True, comment="Tag, upload or setting that it was done to."),
        sa.Column("digest", sa.LargeBinary(), nullable=True, comment="Content that it was done with."),
        sa.Column("outcome", sa.Text(), server_default=sa.text("'done'"), nullable=False, comment="done or refused."),
        sa.Column(
            "client_address",
            sa.Text(),
            server_default=sa.text("''"),
            nullable=False,
            comment="Where the request came from.",
        ),
        sa.Column(
            "user_agent", sa.Text(), server_default=sa.text("''"), nullable=False, comment="What the client says it is."
        ),
        sa.Column(
            "request_id", sa.Text(), server_default=sa.text("''"), nullable=False, comment="As in the access log."
        ),
        sa.CheckConstraint("outcome in ('done', 'refused')", name=op.f("audit_events_outcome_check")),
        sa.PrimaryKeyConstraint("tenant_id", "at", "id", name="audit_events_pkey"),
        comment="Every change, written in its transaction; partitioned by month.",
        postgresql_partition_by="RANGE (at)",
    )
    op.create_table(
        "tenants",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Joins with tenant_id everywhere."
        ),
        sa.Column(
            "name", sa.Text(collation="C"), nullable=False, comment="First component of its repositories' names."
        ),
        sa.Column(
            "created_at", INSTANT, server_default=NOW, nullable=False, comment="When its first repository came to be."
        ),
        sa.PrimaryKeyConstraint("id", name="tenants_pkey"),
        sa.UniqueConstraint("name", name="tenants_name_key"),
        comment="Organisations: the first component of every repository's name. Tenant 0 is the server itself.",
    )
    op.create_index("tenants_prefix_idx", "tenants", [sa.text("(name || '/'::text)")], unique=False)
    op.create_table(
        "blobs",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=False,
            comment="Of the content; digest_text(digest) is as clients write it.",
        ),
        sa.Column("length", sa.BigInteger(), nullable=False, comment="In bytes."),
        sa.Column("store_key", sa.Text(), nullable=False, comment="Where the byte store has the content."),
        sa.Column(
            "state",
            sa.Text(),
            server_default=sa.text("'live'"),
            nullable=False,
            comment="live; condemned: nothing needs it and its bytes are being deleted; deleted.",
        ),
        sa.Column(
            "created_at", INSTANT, server_default=NOW, nullable=False, comment="When the tenant first had the content."
        ),
        sa.Column("condemned_at", INSTANT, nullable=True, comment="When garbage collection condemned it."),
        sa.CheckConstraint("state in ('live', 'condemned', 'deleted')", name=op.f("blobs_state_check")),
        sa.CheckConstraint("length >= 0", name=op.f("blobs_length_check")),
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
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column(
            "id",
            sa.BigInteger(),
            sa.Identity(always=False),
            nullable=False,
            comment="Joins with repository_id, together with tenant_id.",
        ),
        sa.Column("path", sa.Text(collation="C"), nullable=False, comment="The name without the tenant and its slash."),
        sa.Column(
            "sparse",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Whether indexes may have children that the repository lacks.",
        ),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False, comment="When it was first written to."),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="repositories_tenant_id_fkey"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="repositories_pkey"),
        comment="Repositories: the full name is the tenant's name, a slash and the path.",
    )
    op.create_index(
        "repositories_tenant_id_path_key",
        "repositories",
        ["tenant_id", "path"],
        unique=True,
        postgresql_where=sa.text("path is not null"),
    )
    op.create_table(
        "layers",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("repository_id", sa.BigInteger(), nullable=False, comment="The repository: repositories.id."),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="The blob: blobs.digest."),
        sa.Column(
            "needed_at",
            INSTANT,
            server_default=NOW,
            nullable=False,
            comment="When it was last pushed, mounted or referred to: garbage collection waits from here.",
        ),
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
    op.create_index("layers_digest_idx", "layers", ["tenant_id", "digest", "repository_id"], unique=False)
    op.create_table(
        "manifests",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("repository_id", sa.BigInteger(), nullable=False, comment="The repository: repositories.id."),
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=False,
            comment="Of the payload; of Docker schema 1 without its signatures.",
        ),
        sa.Column("media_type", sa.Text(), nullable=False, comment="As pushed, without parameters."),
        sa.Column("artifact_type", sa.Text(), nullable=True, comment="As written, else an image's config media type."),
        sa.Column("config_media_type", sa.Text(), nullable=True, comment="Media type of its config, where it has one."),
        sa.Column(
            "subject_digest",
            sa.LargeBinary(),
            nullable=True,
            comment="The content that it says something about; it may be absent.",
        ),
        sa.Column("length", sa.BigInteger(), nullable=False, comment="Of the payload, in bytes."),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="The exact bytes as pushed."),
        sa.Column("pushed_at", INSTANT, server_default=NOW, nullable=False, comment="When it was first pushed."),
        sa.Column("pushed_by", sa.Text(), nullable=False, comment="Who pushed it first."),
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
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("repository_id", sa.BigInteger(), nullable=False, comment="The repository: repositories.id."),
        sa.Column("uuid", sa.Uuid(), nullable=False, comment="The session's name."),
        sa.Column(
            "algorithm", sa.Text(), nullable=False, comment="Digest algorithm that the client means to close it with."
        ),
        sa.Column(
            "offset_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Bytes so far."
        ),
        sa.Column("store_key", sa.Text(), nullable=False, comment="Where the byte store collects the content."),
        sa.Column(
            "store_state",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="What the byte store needs to go on.",
        ),
        sa.Column(
            "version",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Counts its writers; of two at once the second finds another one.",
        ),
        sa.Column("actor", sa.Text(), nullable=False, comment="Who began it."),
        sa.Column("started_at", INSTANT, server_default=NOW, nullable=False, comment="When it began."),
        sa.Column(
            "expires_at", INSTANT, nullable=False, comment="When it is forgotten unless something is written to it."
        ),
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
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("repository_id", sa.BigInteger(), nullable=False, comment="The repository: repositories.id."),
        sa.Column("manifest_digest", sa.LargeBinary(), nullable=False, comment="The manifest: manifests.digest."),
        sa.Column("key", sa.Text(collation="C"), nullable=False, comment="Name of the annotation."),
        sa.Column("value", sa.Text(), nullable=False, comment="Its text."),
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
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("repository_id", sa.BigInteger(), nullable=False, comment="The repository: repositories.id."),
        sa.Column(
            "manifest_digest", sa.LargeBinary(), nullable=False, comment="The manifest that refers: manifests.digest."
        ),
        sa.Column("position", sa.Integer(), nullable=False, comment="Its place in the manifest, from 0."),
        sa.Column("role", sa.Text(), nullable=False, comment="What it is to the manifest."),
        sa.Column("media_type", sa.Text(), nullable=False, comment="As the manifest says."),
        sa.Column("length", sa.BigInteger(), nullable=False, comment="In bytes, as the manifest says."),
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=False,
            comment="What is referred to: in layers, in manifests, or absent.",
        ),
        sa.Column("artifact_type", sa.Text(), nullable=True, comment="As the manifest says, where it does."),
        sa.Column("os", sa.Text(), nullable=True, comment="Operating system of a child."),
        sa.Column("architecture", sa.Text(), nullable=True, comment="Processor architecture of a child."),
        sa.Column("variant", sa.Text(), nullable=True, comment="Variant of a child's architecture."),
        sa.Column("required", sa.Boolean(), nullable=False, comment="Whether the push was refused without it."),
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
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("repository_id", sa.BigInteger(), nullable=False, comment="The repository: repositories.id."),
        sa.Column(
            "manifest_digest",
            sa.LargeBinary(),
            nullable=False,
            comment="The manifest that is signed: manifests.digest.",
        ),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="Of the signature's bytes."),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Order of arrival."),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="The signature, a JWS in JSON."),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False, comment="When it arrived."),
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
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("repository_id", sa.BigInteger(), nullable=False, comment="The repository: repositories.id."),
        sa.Column("name", sa.Text(collation="C"), nullable=False, comment="Name of the tag."),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="The manifest that it points or pointed to."),
        sa.Column(
            "valid_from",
            INSTANT,
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="Since when it pointed there.",
        ),
        sa.Column("valid_to", INSTANT, nullable=True, comment="Until when, exclusive; null: it still does."),
        sa.Column("actor", sa.Text(), nullable=False, comment="Who pointed it there."),
        sa.Column("ended_by", sa.Text(), nullable=True, comment="Who moved or deleted it."),
        sa.Column(
            "previous_digest",
            sa.LargeBinary(),
            nullable=True,
            comment="Of a live tag: what it pointed to before its last move.",
        ),
        sa.Column("previous_from", INSTANT, nullable=True, comment="Of a live tag: since when it pointed there."),
        sa.Column("previous_actor", sa.Text(), nullable=True, comment="Of a live tag: who had pointed it there."),
        sa.Column(
            "live_digest",
            sa.LargeBinary(),
            sa.Computed("CASE WHEN valid_to IS NULL THEN digest ELSE NULL::bytea END", persisted=True),
            nullable=True,
            comment="The digest while the tag is live, else null: so that history outlives its manifests.",
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
    op.drop_table("tags")
    op.drop_table("signatures")
    op.drop_table("descriptors")
    op.drop_table("annotations")
    op.drop_table("uploads")
    op.drop_table("manifests")
    op.drop_table("layers")
    op.drop_table("repositories")
    op.drop_table("blobs")
    op.drop_table("tenants")
    op.drop_table("audit_events")
