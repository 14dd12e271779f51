"""What waits for collection and what a deletion would free, as collections judge it.

`report.garbage` told other instants than they go by, and deletions were said to free what stays without a tag, where
untagged manifests are kept.

Revises 0029.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

FILES = Path(__file__).parents[1] / "reports"
READERS = "distsql_auditor, distsql_reader"
BEFORE: str = runpy.run_path(str(Path(__file__).with_name("2026_11_26_deletion_effects.py")))[
    "DELETION_EFFECTS"
].replace("create function", "create or replace function")
# Where untagged manifests are kept, only referrers follow what is deleted.
CHANGES = (
    (
        "    select t.name || '/' || r.path as name\n",
        "    select t.name || '/' || r.path as name, coalesce(r.untagged, t.untagged) = 'collect' as collects\n",
    ),
    (
        "    select e.digest from ending e\n    union\n",
        "    select e.digest from ending e where (select h.collects from here h)\n    union\n",
    ),
    (
        "d.manifest_digest = c.digest\n            and d.role <> 'subject'\n        union all\n",
        (
            "d.manifest_digest = c.digest\n            and d.role <> 'subject' and (select h.collects from here h)\n"
            "        union all\n"
        ),
    ),
    (
        "-- What keeps some of it from outside.\n",
        (
            "asked as materialized (\n    select c.digest from candidates c union select e.digest from ending e\n),\n"
            "-- What keeps some of it from outside.\n"
        ),
    ),
    (" as keeper from candidates c\n", " as keeper from asked c\n"),
    ("select c.digest, '@' || digest_text(d.manifest_digest) from candidates c\n", None),
    ("select c.digest, '@' || digest_text(s.digest) from candidates c\n", None),
    (
        "        limit 1\n    ) s\n),\n",
        (
            "        limit 1\n    ) s\n    union all\n    select e.digest, null from ending e"
            " where e.digest not in (select c.digest from candidates c)\n),\n"
        ),
    ),
    (
        "(select h.name from here h) || min(k.keeper)\n",
        "coalesce((select h.name from here h) || min(k.keeper), 'untagged manifests are kept')\n",
    ),
)


def _effects() -> str:
    text = BEFORE
    for old, new in CHANGES:
        if text.count(old) != 1:
            raise AssertionError(f"the earlier function has no such part: {old}")
        text = text.replace(old, new or old.replace("from candidates c", "from asked c"))
    return text


def _report(version: int) -> None:
    cursor = op.get_bind().connection.cursor()
    cursor.execute((FILES / f"garbage.{version}.sql").read_text(encoding="utf-8"))
    cursor.close()


def upgrade() -> None:
    """Puts them in the place of the ones before; who may use them stays."""
    _report(3)
    op.execute(_effects())


def downgrade() -> None:
    """The versions before."""
    op.execute(BEFORE)
    _report(2)
