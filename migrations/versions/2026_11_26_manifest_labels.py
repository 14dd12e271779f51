"""Labels of Docker schema 1 are rows, and servers tell how far they looked for labels that nobody has read.

Such an image's config is in its manifest, so the push writes them.
What is there gets them here, one after the other; a config that can't be read is passed over, as at a push. What is
pushed to the previous version's servers while this one is already there has none.

Revises 0037.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

FILES = Path(__file__).parents[1] / "reports"
READERS = "distsql_auditor, distsql_reader"
SERVED = "nullif(current_setting('app.tenant_id', true), '')::bigint"
MINE = "(select r.tenant_id from sql_roles r where r.role_name = current_user::text and r.closed_at is null)"
TABLE = "manifest_labels"
FILL = """
do $$
declare m record;
begin
    for m in
        select tenant_id, repository_id, digest, payload from manifests
        where lower(media_type) in (
            'application/vnd.docker.distribution.manifest.v1+json',
            'application/vnd.docker.distribution.manifest.v1+prettyjws'
        )
    loop
        begin
            insert into manifest_labels (tenant_id, repository_id, manifest_digest, key, value)
            select m.tenant_id, m.repository_id, m.digest, l.key, l.value #>> '{}'
            from (
                select (convert_from(m.payload, 'UTF8')::jsonb #>> '{history,0,v1Compatibility}')::jsonb
                    #> '{config,Labels}' as labels
            ) c
            cross join lateral jsonb_each(case jsonb_typeof(c.labels) when 'object' then c.labels else '{}' end) l
            where jsonb_typeof(l.value) = 'string' and octet_length(l.key) <= 1024
            and (select count(*) from jsonb_object_keys(c.labels)) <= 1000;
        exception when data_exception then null;
        end;
    end loop;
end $$
"""


def _run(file: str) -> None:
    cursor = op.get_bind().connection.cursor()
    cursor.execute((FILES / file).read_text(encoding="utf-8"))
    cursor.close()


def upgrade() -> None:
    """Makes the table. Nobody changes a manifest's labels; they are forgotten after it."""
    op.create_table(
        TABLE,
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("repository_id", sa.BigInteger(), nullable=False, comment="The repository: repositories.id."),
        sa.Column("manifest_digest", sa.LargeBinary(), nullable=False, comment="The manifest: manifests.digest."),
        sa.Column("key", sa.Text(collation="C"), nullable=False, comment="Name of the label."),
        sa.Column("value", sa.Text(), nullable=False, comment="Its text."),
        sa.PrimaryKeyConstraint("tenant_id", "repository_id", "manifest_digest", "key", name=f"{TABLE}_pkey"),
        comment="Labels of images that have their config in their manifest: Docker schema 1. Written with the push.",
    )
    op.execute(f"create policy tenant on {TABLE} to distsql_serve using (tenant_id = {SERVED})")
    op.execute(f"create policy owner on {TABLE} to current_user using (true)")
    op.execute(f"create policy auditor on {TABLE} for select to distsql_auditor using (true)")
    op.execute(f"create policy reader on {TABLE} for select to distsql_reader using (tenant_id = {MINE})")
    op.execute(f"alter table {TABLE} enable row level security, force row level security")
    op.execute(f"grant select, insert on {TABLE} to distsql_serve")
    op.execute(f"grant select (tenant_id, repository_id, manifest_digest, key, value) on {TABLE} to {READERS}")
    op.add_column(
        "turns",
        sa.Column(
            "reached_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="What was written before is done with, where it is done in the order of writing.",
        ),
    )
    _run("labels.3.sql")
    op.execute(FILL)


def downgrade() -> None:
    """Labels of schema 1 are not shown again."""
    _run("labels.2.sql")
    op.drop_column("turns", "reached_at")
    op.drop_table(TABLE)
