"""The catalogue's tables. Migrations are compared against this metadata, statements are written with it.

The tenant is first in every key, so that no key reaches across tenants. Digests are ``bytea``: the algorithm's byte
and the raw hash. Names sort by byte (``COLLATE "C"``).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from distsql.sql.columns import INSTANT, NAME, NOW, repository_id, tenant_id
from distsql.sql.tenant_tables import SERVER_TENANT_ID, metadata, repositories, tenants
from distsql.sql.types import DigestType

__all__ = [
    "SERVER_TENANT_ID",
    "audit_events",
    "blobs",
    "descriptors",
    "layers",
    "manifest_annotations",
    "manifests",
    "metadata",
    "repositories",
    "signatures",
    "signing_manifests",
    "tags",
    "tenants",
    "uploads",
]


blobs: Final = Table(
    "blobs",
    metadata,
    tenant_id(),
    Column("digest", DigestType, nullable=False, comment="Of the content; digest_text(digest) is as clients write it."),
    Column("length", BigInteger, nullable=False, comment="In bytes."),
    Column("store_key", Text, nullable=False, comment="Where the byte store has the content."),
    Column(
        "state",
        Text,
        nullable=False,
        server_default=text("'live'"),
        comment="live; condemned: nothing needs it and its bytes are being deleted; deleted.",
    ),
    Column("created_at", INSTANT, nullable=False, server_default=NOW, comment="When the tenant first had the content."),
    Column("condemned_at", INSTANT, comment="When garbage collection condemned it."),
    Column("store", Text, comment="Which byte store has it: byte_stores.name; null: the settings' store."),
    PrimaryKeyConstraint("tenant_id", "digest"),
    # No foreign key to tenants: a blob comes with a layer, which has one to its repository. Every upload would lock the
    # tenant's one row, and write who shares it.
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
    tenant_id(),
    repository_id(),
    Column("digest", DigestType, nullable=False, comment="The blob: blobs.digest."),
    Column(
        "needed_at",
        INSTANT,
        nullable=False,
        server_default=NOW,
        comment="When it was last pushed, mounted or referred to: garbage collection waits from here.",
    ),
    Column("length", BigInteger, comment="The blob's; null where a version before this column linked it."),
    PrimaryKeyConstraint("tenant_id", "repository_id", "digest"),
    ForeignKeyConstraint(["tenant_id", "repository_id"], ["repositories.tenant_id", "repositories.id"]),
    ForeignKeyConstraint(["tenant_id", "digest"], ["blobs.tenant_id", "blobs.digest"]),
    # With the repository, although (tenant, digest) is what it is for: thousands of repositories share a base layer,
    # and PostgreSQL takes this index for the primary key's questions too.
    Index("layers_digest_idx", "tenant_id", "digest", "repository_id"),
    comment="Which repository may see which blob.",
)

manifests: Final = Table(
    "manifests",
    metadata,
    tenant_id(),
    repository_id(),
    Column("digest", DigestType, nullable=False, comment="Of the payload; of Docker schema 1 without its signatures."),
    Column("media_type", Text, nullable=False, comment="As pushed, without parameters."),
    Column("artifact_type", Text, comment="As written, else an image's config media type."),
    Column("config_media_type", Text, comment="Media type of its config, where it has one."),
    Column("subject_digest", DigestType, comment="The content that it says something about; it may be absent."),
    Column("length", BigInteger, nullable=False, comment="Of the payload, in bytes."),
    Column("payload", LargeBinary, nullable=False, comment="The exact bytes as pushed."),
    Column("pushed_at", INSTANT, nullable=False, server_default=NOW, comment="When it was first pushed."),
    Column("pushed_by", Text, nullable=False, comment="Who pushed it first."),
    Column(
        "promised_at",
        INSTANT,
        comment="When somebody was told that it is there although nothing holds it: collection waits from here.",
    ),
    Column("deleted_at", INSTANT, comment="When it was deleted: it is there for nobody, and the row goes later."),
    Column("deleted_by", Text, comment="Who deleted it."),
    Column("followed_digest", DigestType, comment="The subject that it was deleted after, as its referrer."),
    Column("deleted_signatures", ARRAY(LargeBinary), comment="Its JWS signatures, while it is deleted."),
    Column(
        "deleted_tags",
        ARRAY(NAME),
        comment="Tags that ended with it, while it is deleted; null: a version before this column deleted it.",
    ),
    PrimaryKeyConstraint("tenant_id", "repository_id", "digest"),
    ForeignKeyConstraint(["tenant_id", "repository_id"], ["repositories.tenant_id", "repositories.id"]),
    CheckConstraint("length = octet_length(payload)", name="length"),
    comment="Manifests with their exact payload.",
)

descriptors: Final = Table(
    "descriptors",
    metadata,
    tenant_id(),
    repository_id(),
    Column("manifest_digest", DigestType, nullable=False, comment="The manifest that refers: manifests.digest."),
    Column("position", Integer, nullable=False, comment="Its place in the manifest, from 0."),
    Column("role", Text, nullable=False, comment="What it is to the manifest."),
    Column("media_type", Text, nullable=False, comment="As the manifest says."),
    Column("length", BigInteger, nullable=False, comment="In bytes, as the manifest says."),
    Column("digest", DigestType, nullable=False, comment="What is referred to: in layers, in manifests, or absent."),
    Column("artifact_type", Text, comment="As the manifest says, where it does."),
    Column("os", Text, comment="Operating system of a child."),
    Column("architecture", Text, comment="Processor architecture of a child."),
    Column("variant", Text, comment="Variant of a child's architecture."),
    Column("required", Boolean, nullable=False, comment="Whether the push was refused without it."),
    PrimaryKeyConstraint("tenant_id", "repository_id", "manifest_digest", "position"),
    ForeignKeyConstraint(
        ["tenant_id", "repository_id", "manifest_digest"],
        ["manifests.tenant_id", "manifests.repository_id", "manifests.digest"],
        ondelete="CASCADE",
    ),
    CheckConstraint("role in ('config', 'layer', 'manifest', 'blob', 'subject')", name="role"),
    # Both ways of asking who needs some content: in one repository, and in the whole tenant; and referrers in order.
    # With the role, which says whether what refers needs it: then the rows, the largest table, need not be read.
    Index(
        "descriptors_digest_idx",
        "tenant_id",
        "digest",
        "repository_id",
        "manifest_digest",
        postgresql_include=["role"],
    ),
    comment="What manifests that aren't deleted refer to, in their order. A subject may be absent from the registry.",
)

# Not called `annotations`, which is what Python's __future__ import binds in every module.
manifest_annotations: Final = Table(
    "annotations",
    metadata,
    tenant_id(),
    repository_id(),
    Column("manifest_digest", DigestType, nullable=False, comment="The manifest: manifests.digest."),
    Column("key", NAME, nullable=False, comment="Name of the annotation."),
    Column("value", Text, nullable=False, comment="Its text."),
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
    tenant_id(),
    repository_id(),
    Column("name", NAME, nullable=False, comment="Name of the tag."),
    Column("digest", DigestType, nullable=False, comment="The manifest that it points or pointed to."),
    Column(
        "valid_from",
        INSTANT,
        nullable=False,
        server_default=func.clock_timestamp(),
        comment="Since when it pointed there.",
    ),
    Column("valid_to", INSTANT, comment="Until when, exclusive; null: it still does."),
    Column("actor", Text, nullable=False, comment="Who pointed it there."),
    Column("ended_by", Text, comment="Who moved or deleted it."),
    # What the live row was before its last move: the move writes it into the history in the same statement.
    Column("previous_digest", DigestType, comment="Of a live tag: what it pointed to before its last move."),
    Column("previous_from", INSTANT, comment="Of a live tag: since when it pointed there."),
    Column("previous_actor", Text, comment="Of a live tag: who had pointed it there."),
    # Null once ended, so that the foreign key binds live tags only and history outlives its manifests.
    Column(
        "live_digest",
        DigestType,
        Computed("CASE WHEN valid_to IS NULL THEN digest ELSE NULL::bytea END", persisted=True),
        comment="The digest while the tag is live, else null: so that history outlives its manifests.",
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
    tenant_id(),
    repository_id(),
    Column("manifest_digest", DigestType, nullable=False, comment="The manifest that is signed: manifests.digest."),
    Column("digest", DigestType, nullable=False, comment="Of the signature's bytes."),
    Column("id", BigInteger, Identity(always=False), nullable=False, comment="Order of arrival."),
    Column("payload", LargeBinary, nullable=False, comment="The signature, a JWS in JSON."),
    Column("created_at", INSTANT, nullable=False, server_default=NOW, comment="When it arrived."),
    PrimaryKeyConstraint("tenant_id", "repository_id", "manifest_digest", "digest"),
    ForeignKeyConstraint(
        ["tenant_id", "repository_id", "manifest_digest"],
        ["manifests.tenant_id", "manifests.repository_id", "manifests.digest"],
        ondelete="CASCADE",
    ),
    comment="JWS signatures of manifests, apart from the manifests; digest is that of the signature's bytes.",
)

# JWS signatures have a table of their own: they are no manifests.
signing_manifests: Final = Table(
    "signing_manifests",
    metadata,
    tenant_id(),
    repository_id(),
    Column("subject_digest", DigestType, nullable=False, comment="The content that is signed; it may be absent."),
    Column("manifest_digest", DigestType, nullable=False, comment="The manifest that signs: manifests.digest."),
    Column(
        "kind",
        Text,
        nullable=False,
        comment="cosign: by a live tag that is called after the subject; referrer: by its subject and artifact type.",
    ),
    Column("created_at", INSTANT, nullable=False, server_default=NOW, comment="When it came to sign the subject."),
    PrimaryKeyConstraint("tenant_id", "repository_id", "subject_digest", "manifest_digest", "kind"),
    ForeignKeyConstraint(
        ["tenant_id", "repository_id", "manifest_digest"],
        ["manifests.tenant_id", "manifests.repository_id", "manifests.digest"],
        ondelete="CASCADE",
    ),
    CheckConstraint("kind in ('cosign', 'referrer')", name="kind"),
    Index("signing_manifests_manifest_digest_idx", "tenant_id", "repository_id", "manifest_digest"),
    comment="Manifests that sign other content, as they say; written when they are pushed or tagged.",
)

uploads: Final = Table(
    "uploads",
    metadata,
    tenant_id(),
    repository_id(),
    Column("uuid", Uuid, nullable=False, comment="The session's name."),
    Column("algorithm", Text, nullable=False, comment="Digest algorithm that the client means to close it with."),
    Column("offset_bytes", BigInteger, nullable=False, server_default=text("0"), comment="Bytes so far."),
    Column("store_key", Text, nullable=False, comment="Where the byte store collects the content."),
    Column(
        "store_state", JSONB, nullable=False, server_default=text("'{}'"), comment="What the byte store needs to go on."
    ),
    Column("digest", DigestType, comment="Of the first digest_bytes bytes, as who wrote them saw them; null: unknown."),
    Column("digest_bytes", BigInteger, comment="How many bytes digest is of: of all where this is offset_bytes."),
    Column(
        "version",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="Counts its writers; of two at once the second finds another one.",
    ),
    Column("actor", Text, nullable=False, comment="Who began it."),
    Column("account_id", BigInteger, comment="The account that began it: accounts.id; null: nobody had to log in."),
    Column("started_at", INSTANT, nullable=False, server_default=NOW, comment="When it began."),
    Column("expires_at", INSTANT, nullable=False, comment="When it is forgotten unless something is written to it."),
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
    tenant_id(),
    Column("at", INSTANT, nullable=False, server_default=func.clock_timestamp(), comment="When."),
    # Only tells events of one instant apart. Random, by the statement: an identity column can't be partitioned before
    # PostgreSQL 17, and a sequence is one more lock in every transaction.
    Column("id", BigInteger, nullable=False, comment="Tells events of one instant apart; random."),
    Column("actor", Text, nullable=False, comment="Who."),
    Column("action", Text, nullable=False, comment="What was done: manifest.put, tag.delete ..."),
    Column("repository", NAME, comment="Full name of the repository."),
    Column("reference", Text, comment="Tag, upload or setting that it was done to."),
    Column("digest", DigestType, comment="Content that it was done with."),
    Column("outcome", Text, nullable=False, server_default=text("'done'"), comment="done or refused."),
    Column("client_address", Text, nullable=False, server_default=text("''"), comment="Where the request came from."),
    Column("user_agent", Text, nullable=False, server_default=text("''"), comment="What the client says it is."),
    Column("request_id", Text, nullable=False, server_default=text("''"), comment="As in the access log."),
    Column("account_id", BigInteger, comment="The actor's account: accounts.id; none of nobody's, or of a command."),
    Column("token_id", Text, comment="Tells tokens apart: the beginning of its SHA-256."),
    Column("cause", Text, comment="Why it was refused."),
    Column(
        "times",
        BigInteger,
        nullable=False,
        server_default=text("1"),
        comment="How often, of refusals and logins that were alike within a few seconds.",
    ),
    PrimaryKeyConstraint("tenant_id", "at", "id"),
    CheckConstraint("outcome in ('done', 'refused')", name="outcome"),
    comment="Every change, written in its transaction; partitioned by month.",
    postgresql_partition_by="RANGE (at)",
)
