"""`report.why_kept` tells of what deleted manifests hold, which can still be restored.

Revises 0023.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

BEFORE = runpy.run_path(str(Path(__file__).with_name("2026_11_26_deletion_effects.py")))["WHY_KEPT"].replace(
    "create function", "create or replace function"
)
_LAST = "    union all\n    select null, null, null, case b.state"
RESTORABLE = """
    union all
    select why_kept.tenant || '/' || r.path, digest_text(k.manifest_digest), null, 'restorable'
    from blob b
    cross join lateral (
        select k.tenant_id, k.repository_id, k.manifest_digest from kept_references k
        where k.tenant_id = b.tenant_id and k.digest = b.digest
        offset 0
    ) k
    join repositories r on r.tenant_id = k.tenant_id and r.id = k.repository_id
"""
COMMENT_BEFORE = (
    "Why a blob is still here: what needs it, and the tags that keep that. Role grace: it waits to be collected."
)
COMMENT = (
    "Why a blob is still here: what needs it, and the tags that keep that. Role grace: it waits to be collected; "
    "restorable: a deleted manifest can be restored with it."
)
EXAMPLE = """select repository, manifest_digest, tag, role from report.why_kept(
    ''acme'', ''sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855''
);"""


def upgrade() -> None:
    """Replaces the function; who may call it stays."""
    op.execute(BEFORE.replace(_LAST, RESTORABLE + _LAST))
    op.execute(f"comment on function report.why_kept(text, text) is '{COMMENT}\n\n{EXAMPLE}'")


def downgrade() -> None:
    """Puts the function of before back."""
    op.execute(BEFORE)
    op.execute(f"comment on function report.why_kept(text, text) is '{COMMENT_BEFORE}\n\n{EXAMPLE}'")
