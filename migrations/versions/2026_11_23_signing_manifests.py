"""Which manifests sign which content: a row for each, written when they are pushed or tagged.

What the previous version's servers push while they still run has no rows until `distsql migrate --to 0001` and
`distsql migrate` made the table anew: stop them first where that matters.

Revises 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# As distsql/oci/signing.py has them at this revision.
FROM_TAGS = r"""
insert into signing_manifests (tenant_id, repository_id, subject_digest, manifest_digest, kind, created_at)
select tenant_id, repository_id, '\x01'::bytea || decode(substr(name, 8, 64), 'hex'), digest, 'cosign', valid_from
from tags where valid_to is null and name ~ '^sha256-[0-9a-f]{64}\.sig$'
"""
FROM_REFERRERS = r"""
insert into signing_manifests (tenant_id, repository_id, subject_digest, manifest_digest, kind, created_at)
select tenant_id, repository_id, subject_digest, digest, 'referrer', pushed_at
from manifests where subject_digest is not null and artifact_type ~ ('^application/(vnd\.cncf\.notary\.signature'
    '|vnd\.dev\.cosign\.artifact\.sig\.v1\+json|vnd\.dev\.sigstore\.bundle\.v[0-9]+\.[0-9]+\+json)$')
"""
WITHOUT_MANIFEST = """
delete from signing_manifests s where not exists (select from manifests m
    where (m.tenant_id, m.repository_id, m.digest) = (s.tenant_id, s.repository_id, s.manifest_digest))
"""


def upgrade() -> None:
    """Makes the table from what is there, and only then binds it to manifests: that stops pushes for a moment."""
    op.create_table(
        "signing_manifests",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("repository_id", sa.BigInteger(), nullable=False, comment="The repository: repositories.id."),
        sa.Column(
            "subject_digest", sa.LargeBinary(), nullable=False, comment="The content that is signed; it may be absent."
        ),
        sa.Column(
            "manifest_digest", sa.LargeBinary(), nullable=False, comment="The manifest that signs: manifests.digest."
        ),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="cosign: by a live tag that is called after the subject; referrer: by its subject and artifact "
            "type.",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it came to sign the subject.",
        ),
        sa.CheckConstraint("kind in ('cosign', 'referrer')", name=op.f("signing_manifests_kind_check")),
        sa.PrimaryKeyConstraint(
            "tenant_id", "repository_id", "subject_digest", "manifest_digest", "kind", name="signing_manifests_pkey"
        ),
        comment="Manifests that sign other content, as they say; written when they are pushed or tagged.",
    )
    op.create_index(
        "signing_manifests_manifest_digest_idx",
        "signing_manifests",
        ["tenant_id", "repository_id", "manifest_digest"],
        unique=False,
    )
    op.execute(FROM_TAGS)
    op.execute(FROM_REFERRERS)
    op.execute("lock table manifests in share row exclusive mode")
    op.execute(WITHOUT_MANIFEST)
    op.create_foreign_key(
        "signing_manifests_tenant_id_repository_id_manifest_digest_fkey",
        "signing_manifests",
        "manifests",
        ["tenant_id", "repository_id", "manifest_digest"],
        ["tenant_id", "repository_id", "digest"],
        ondelete="CASCADE",
    )


def downgrade() -> None:
    """Drops the table; the tags and manifests that it was made from stay."""
    op.drop_table("signing_manifests")
