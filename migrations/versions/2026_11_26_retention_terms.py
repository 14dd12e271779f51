"""What policies say about a repository is read by itself, and decides about its content in a second statement.

Both together locked 24 tables and indexes. The function that had all of it asks the two.

Revises 0032.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

DECISIONS: str = runpy.run_path(str(Path(__file__).with_name("2026_11_26_retention.py")))["DECISIONS"]
_HEADER = "create function retention_decisions(of_tenant_id bigint, of_repository_id bigint)"
_BEGINNING, _REST = DECISIONS.split("with\nhere as materialized")
_TERMS = _REST.split("live as materialized", maxsplit=1)[0]

TERMS = r"""
create function retention_terms(of_tenant_id bigint, of_repository_id bigint) returns jsonb
language sql stable
begin atomic
with
here as materialized<terms>
select jsonb_build_object(
    'refusal', h.refusal, 'immutable_tags', h.immutable_tags,
    'rules', (select coalesce(jsonb_agg(r), '[]') from rules r)
)
from here h;
end
""".replace("<terms>", _TERMS.rstrip().rstrip(","))
GIVEN = r""" (
    select terms ->> 'refusal' as refusal,
        array(select each from jsonb_array_elements_text(terms -> 'immutable_tags') each) as immutable_tags
    where terms is not null
),
rules as materialized (
    select r.policy_id, r.kind, r.priority, r.action, r.selects, r.criterion, r.latest, r.since, r.patterns
    from jsonb_to_recordset(terms -> 'rules') as r (
        policy_id bigint, kind text, priority integer, action text, selects text, criterion text, latest integer,
        since timestamptz, patterns text[]
    )
),
"""
VERDICTS = DECISIONS.replace(_TERMS, GIVEN).replace(
    _HEADER, "create function retention_verdicts(of_tenant_id bigint, of_repository_id bigint, terms jsonb)"
)
BOTH = """<beginning>select * from retention_verdicts(
    of_tenant_id, of_repository_id, retention_terms(of_tenant_id, of_repository_id)
);
end
""".replace(
    "<beginning>",
    _BEGINNING.replace("create function", "create or replace function").replace(" set enable_nestloop = off", ""),
)
TERMS_COMMENT = "What retention_verdicts goes by: the rules for a repository, and why nothing or which tags may not go."
VERDICTS_COMMENT = "What retention_decisions tells, by these terms, which were read just before."


def upgrade() -> None:
    """Makes the two, and then the one of them."""
    op.execute(TERMS)
    op.execute(f"comment on function retention_terms(bigint, bigint) is '{TERMS_COMMENT}'")
    op.execute(VERDICTS)
    op.execute(f"comment on function retention_verdicts(bigint, bigint, jsonb) is '{VERDICTS_COMMENT}'")
    op.execute(BOTH)


def downgrade() -> None:
    """The one as it was."""
    op.execute(DECISIONS.replace("create function", "create or replace function"))
    op.execute("drop function retention_verdicts(bigint, bigint, jsonb)")
    op.execute("drop function retention_terms(bigint, bigint)")
