"""`report.why_kept` tells of what deleted manifests hold, which can still be restored.

Revises 0022.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from alembic import op

revision = "0023"
down_revision = "0022"
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
COMMENT = (
    "Why a blob is still here: what needs it, and the tags that keep that. Role grace: it waits to be collected; "
    "restorable: a deleted manifest can be restored with it."
)


def upgrade() -> None:
    """Replaces the function; who may call it stays."""
    op.execute(BEFORE.replace(_LAST, RESTORABLE + _LAST))
    op.execute(f"comment on function report.why_kept(text, text) is '{COMMENT}'")


def downgrade() -> None:
    """Puts the function of before back."""
    op.execute(BEFORE)
    op.execute(
        "comment on function report.why_kept(text, text) is "
        "'Why a blob is still here: what needs it, and the tags that keep that. Role grace: it waits to be collected.'"
    )
