"""Accounts, their grants, the keys that sign tokens, and what everybody may pull.

The previous version's servers go on as they are: they ask for no login, and know of nothing public.

Revises 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("now()")
NAME = sa.Text(collation="C")

# Accounts are changed, and keys read and made, by the owner only: serving needs to know who may do what.
GRANTS = {"accounts": "select", "grants": "select", "signing_keys": None}
TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"


def upgrade() -> None:
    """Makes the tables; the new columns have a constant default, so that no row is written."""
    op.create_table(
        "accounts",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column(
            "id",
            sa.BigInteger(),
            sa.Identity(always=False),
            nullable=False,
            comment="Joins with account_id, together with tenant_id; tokens name it.",
        ),
        sa.Column("name", NAME, nullable=False, comment="The login name without the tenant and its slash."),
        sa.Column("kind", sa.Text(), nullable=False, comment="person, robot, or token: to be thrown away."),
        sa.Column("secret_hash", sa.Text(), nullable=False, comment="Argon2id hash of its secret, which nobody has."),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False, comment="When it was made."),
        sa.Column("expires_at", INSTANT, nullable=True, comment="From when on it opens nothing."),
        sa.Column("disabled_at", INSTANT, nullable=True, comment="Since when it is switched off."),
        sa.Column("last_used_at", INSTANT, nullable=True, comment="When it was last used, to a few seconds."),
        sa.Column(
            "generation",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Counts whatever took rights away: access tokens of earlier ones are void.",
        ),
        sa.Column(
            "secret_generation",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Counts what made its secret void: refresh tokens of earlier ones are void too.",
        ),
        sa.CheckConstraint("kind in ('person', 'robot', 'token')", name=op.f("accounts_kind_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="accounts_tenant_id_fkey"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="accounts_pkey"),
        sa.UniqueConstraint("tenant_id", "name", name="accounts_tenant_id_name_key"),
        comment="Whoever may log in: people, robots, and deploy tokens.",
    )
    op.create_table(
        "grants",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("account_id", sa.BigInteger(), nullable=False, comment="The account: accounts.id."),
        sa.Column(
            "pattern",
            NAME,
            nullable=False,
            comment="Paths within the tenant: * is one component, ** at the end any number.",
        ),
        sa.Column("action", sa.Text(), nullable=False, comment="pull, push, delete or admin."),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False, comment="When it was given."),
        sa.CheckConstraint("action in ('pull', 'push', 'delete', 'admin')", name=op.f("grants_action_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"],
            ["accounts.tenant_id", "accounts.id"],
            name="grants_tenant_id_account_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "account_id", "pattern", "action", name="grants_pkey"),
        comment="What an account may do, and where, within its tenant.",
    )
    op.create_table(
        "signing_keys",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="0: keys are the server's."),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Order of making."),
        sa.Column("kid", NAME, nullable=False, comment="Name of the key in tokens: its thumbprint (RFC 7638)."),
        sa.Column("algorithm", sa.Text(), nullable=False, comment="JWS algorithm that it signs with."),
        sa.Column("private_key", sa.Text(), nullable=False, comment="The key in PEM (PKCS #8); it leaves no server."),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False, comment="When it was made."),
        sa.Column("retired_at", INSTANT, nullable=True, comment="Since when it signs nothing any more."),
        sa.Column("expires_at", INSTANT, nullable=True, comment="Until when what it has signed counts."),
        sa.CheckConstraint("algorithm in ('ES256')", name=op.f("signing_keys_algorithm_check")),
        sa.CheckConstraint("(retired_at is null) = (expires_at is null)", name=op.f("signing_keys_expires_at_check")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="signing_keys_pkey"),
        sa.UniqueConstraint("tenant_id", "kid", name="signing_keys_tenant_id_kid_key"),
        comment="Keys that sign tokens; one of them at a time, the others until their tokens are over.",
    )
    op.create_index(
        "signing_keys_live_key",
        "signing_keys",
        ["tenant_id"],
        unique=True,
        postgresql_where=sa.text("retired_at is null"),
    )
    for table in ("tenants", "repositories"):
        op.add_column(
            table,
            sa.Column(
                "public",
                sa.Boolean(),
                server_default=sa.text("false"),
                nullable=False,
                comment="Whether everybody may pull from it without an account.",
            ),
        )
    for table, rights in GRANTS.items():
        op.execute(f"create policy tenant on {table} to distsql_serve using (tenant_id = {TENANT})")
        op.execute(f"create policy owner on {table} to current_user using (true)")
        op.execute(f"alter table {table} enable row level security, force row level security")
        if rights:
            op.execute(f"grant {rights} on {table} to distsql_serve")


def downgrade() -> None:
    """Drops them: whoever logged in has to be made again."""
    for table in ("repositories", "tenants"):
        op.drop_column(table, "public")
    for table in ("signing_keys", "grants", "accounts"):
        op.drop_table(table)
