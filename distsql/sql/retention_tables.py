"""The catalogue's tables of retention: what may stay, and what goes by itself."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Integer,
    Interval,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from distsql.sql.columns import INSTANT, NOW
from distsql.sql.tables import metadata


def _key(name: str, comment: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, comment=comment)


retention_policies: Final = Table(
    "retention_policies",
    metadata,
    _key("tenant_id", "The tenant: tenants.id."),
    Column("id", BigInteger, Identity(always=False), nullable=False, comment="Joins with policy_id, and tenant_id."),
    Column("repository_id", BigInteger, comment="The repository: repositories.id; none: all of the tenant's."),
    Column(
        "kind",
        Text,
        nullable=False,
        comment="own: of tags, and keep wins; ecr: of images with all their tags, and the first rule that selects one "
        "decides.",
    ),
    Column("set_at", INSTANT, nullable=False, server_default=NOW, comment="When it was set."),
    Column("set_by", Text, nullable=False, comment="Who set it."),
    PrimaryKeyConstraint("tenant_id", "id"),
    UniqueConstraint("tenant_id", "repository_id", postgresql_nulls_not_distinct=True),
    ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
    ForeignKeyConstraint(
        ["tenant_id", "repository_id"], ["repositories.tenant_id", "repositories.id"], ondelete="CASCADE"
    ),
    CheckConstraint("kind in ('own', 'ecr')", name="kind"),
    comment="What a tenant, or one of its repositories, keeps and deletes by itself.",
)

retention_rules: Final = Table(
    "retention_rules",
    metadata,
    _key("tenant_id", "The tenant: tenants.id."),
    _key("policy_id", "The policy: retention_policies.id."),
    Column("priority", Integer, nullable=False, comment="Its place in the policy."),
    Column("action", Text, nullable=False, comment="keep: what fulfils the criterion; delete: what doesn't."),
    Column("selects", Text, nullable=False, comment="What it is about: tagged, untagged, any."),
    Column(
        "patterns",
        ARRAY(Text),
        nullable=False,
        server_default=text("'{}'"),
        comment="Of tags: * is any text, ? any character. One has to fit a tag; of an image (ecr) each.",
    ),
    Column(
        "criterion",
        Text,
        nullable=False,
        comment="all: no other; latest: among so many that were pushed last; pushed, used (pushed or pulled): within "
        "the age; signed.",
    ),
    Column("latest", Integer, comment="How many."),
    Column("age", Interval, comment="How long ago at most."),
    PrimaryKeyConstraint("tenant_id", "policy_id", "priority"),
    ForeignKeyConstraint(
        ["tenant_id", "policy_id"], ["retention_policies.tenant_id", "retention_policies.id"], ondelete="CASCADE"
    ),
    CheckConstraint("action in ('keep', 'delete')", name="action"),
    CheckConstraint("selects in ('tagged', 'untagged', 'any')", name="selects"),
    CheckConstraint("criterion in ('all', 'latest', 'pushed', 'used', 'signed')", name="criterion"),
    CheckConstraint("(latest is not null) = (criterion = 'latest')", name="latest"),
    CheckConstraint("(age is not null) = (criterion in ('pushed', 'used'))", name="age"),
    comment="The rules of retention policies.",
)
