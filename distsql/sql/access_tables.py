"""The catalogue's tables of who may do what: accounts, grants, keys that sign tokens, roles that read in SQL."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from distsql.sql.columns import INSTANT, NAME, NOW, tenant_id
from distsql.sql.tables import metadata

accounts: Final = Table(
    "accounts",
    metadata,
    tenant_id(),
    Column(
        "id",
        BigInteger,
        Identity(always=False),
        nullable=False,
        comment="Joins with account_id, together with tenant_id; tokens name it.",
    ),
    Column("name", NAME, nullable=False, comment="The login name without the tenant and its slash."),
    Column("kind", Text, nullable=False, comment="person, robot, or token: to be thrown away."),
    Column("secret_hash", Text, nullable=False, comment="Argon2id hash of its secret, which nobody has."),
    Column("created_at", INSTANT, nullable=False, server_default=NOW, comment="When it was made."),
    Column("expires_at", INSTANT, comment="From when on it opens nothing."),
    Column("disabled_at", INSTANT, comment="Since when it is switched off."),
    Column("last_used_at", INSTANT, comment="When it was last used, to a few seconds."),
    Column(
        "generation",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="Counts whatever took rights away: access tokens of earlier ones are void.",
    ),
    Column(
        "secret_generation",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="Counts what made its secret void: refresh tokens of earlier ones are void too.",
    ),
    PrimaryKeyConstraint("tenant_id", "id"),
    UniqueConstraint("tenant_id", "name"),
    ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
    CheckConstraint("kind in ('person', 'robot', 'token')", name="kind"),
    comment="Whoever may log in: people, robots, and deploy tokens.",
)

grants: Final = Table(
    "grants",
    metadata,
    tenant_id(),
    Column("account_id", BigInteger, nullable=False, comment="The account: accounts.id."),
    Column(
        "pattern",
        NAME,
        nullable=False,
        comment="Paths within the tenant: * is one component, ** at the end any number.",
    ),
    Column("action", Text, nullable=False, comment="pull, push, delete or admin."),
    Column("created_at", INSTANT, nullable=False, server_default=NOW, comment="When it was given."),
    PrimaryKeyConstraint("tenant_id", "account_id", "pattern", "action"),
    ForeignKeyConstraint(["tenant_id", "account_id"], ["accounts.tenant_id", "accounts.id"], ondelete="CASCADE"),
    CheckConstraint("action in ('pull', 'push', 'delete', 'admin')", name="action"),
    comment="What an account may do, and where, within its tenant.",
)

# No foreign key to accounts or tenants: what was deleted is told as well.
access_changes: Final = Table(
    "access_changes",
    metadata,
    tenant_id(),
    Column("id", BigInteger, Identity(always=False), nullable=False, comment="Tells changes apart."),
    Column("account_id", BigInteger, comment="The account: accounts.id; null: all of the tenant's."),
    Column(
        "transaction_id",
        BigInteger,
        nullable=False,
        server_default=text("pg_current_xact_id()::text::bigint"),
        comment="Whose change it is: what is read again until all before it are over.",
    ),
    Column("at", INSTANT, nullable=False, server_default=NOW, comment="When."),
    PrimaryKeyConstraint("tenant_id", "id"),
    Index("access_changes_transaction_id_idx", "transaction_id"),
    comment="Whose rights have changed, of the last day: servers forget what they know of them.",
)

signing_keys: Final = Table(
    "signing_keys",
    metadata,
    Column("tenant_id", BigInteger, nullable=False, comment="0: keys are the server's."),
    Column("id", BigInteger, Identity(always=False), nullable=False, comment="Order of making."),
    Column("kid", NAME, nullable=False, comment="Name of the key in tokens: its thumbprint (RFC 7638)."),
    Column("algorithm", Text, nullable=False, comment="JWS algorithm that it signs with."),
    Column("private_key", Text, nullable=False, comment="The key in PEM (PKCS #8); it leaves no server."),
    Column("created_at", INSTANT, nullable=False, server_default=NOW, comment="When it was made."),
    Column("retired_at", INSTANT, comment="Since when it signs nothing any more."),
    Column("expires_at", INSTANT, comment="Until when what it has signed counts."),
    PrimaryKeyConstraint("tenant_id", "id"),
    UniqueConstraint("tenant_id", "kid"),
    CheckConstraint("algorithm in ('ES256')", name="algorithm"),
    CheckConstraint("(retired_at is null) = (expires_at is null)", name="expires_at"),
    Index("signing_keys_live_key", "tenant_id", unique=True, postgresql_where=text("retired_at is null")),
    comment="Keys that sign tokens; one of them at a time, the others until their tokens are over.",
)

# No foreign key to tenants: a tenant's role goes when it is deleted, long before its row does.
sql_roles: Final = Table(
    "sql_roles",
    metadata,
    tenant_id(),
    Column("role_name", Text, nullable=False, comment="The role that sees this tenant's rows: pg_roles.rolname."),
    Column("created_at", INSTANT, nullable=False, server_default=NOW, comment="When it was made, or made anew."),
    Column("closed_at", INSTANT, comment="Since when it sees nothing: its tenant is suspended."),
    Column(
        "timeout_ms",
        BigInteger,
        nullable=False,
        server_default=text("30000"),
        comment="How long a statement or transaction of it may take, whatever the role sets itself.",
    ),
    PrimaryKeyConstraint("tenant_id"),
    comment="Which role of PostgreSQL's own reads which tenant's reports.",
)
