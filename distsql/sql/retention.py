"""Retention policies, and what they decide: statements."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    DateTime,
    Integer,
    Interval,
    Text,
    column,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from distsql.oci.digest import Digest
from distsql.sql.repositories import RepositoryRow
from distsql.sql.retention_tables import retention_policies, retention_rules
from distsql.sql.statements import (
    ACTOR,
    LIMIT,
    REPOSITORY_ID,
    TENANT_ID,
    Nothing,
    parameter,
    statement,
    unnested,
)
from distsql.sql.tables import repositories, tenants
from distsql.sql.transactions import Transaction, json_value
from distsql.sql.types import DigestType


class DecisionRow(NamedTuple):
    """What becomes of a tag, or of a manifest (``tag`` None), and why.

    ``reason`` is ``rule`` (of the policy and the priority), ``immutable``, ``companion`` (called after ``because_of``,
    which is there), ``image`` (a rule would delete it, but its image is kept), ``unmatched``, or what refuses all
    deletions: ``read-only``, ``undeletable``, ``suspended``.
    """

    tag: str | None
    digest: Digest
    pushed_at: datetime
    pulled_at: datetime | None
    deletes: bool
    reason: str
    policy_id: int | None
    priority: int | None
    because_of: str | None


class TermsRow(NamedTuple):
    """What retention goes by in a repository."""

    terms: Mapping[str, Any] | None


class RuleRow(NamedTuple):
    """A rule of a policy; ``path`` None is the tenant's own."""

    tenant: str
    path: str | None
    policy_id: int
    kind: str
    set_at: datetime
    set_by: str
    priority: int
    action: str
    selects: str
    patterns: list[str]
    criterion: str
    latest: int | None
    age: timedelta | None


class PolicyRow(NamedTuple):
    """A policy's id."""

    id: int


class RetainedRow(NamedTuple):
    """A repository that a policy is for."""

    tenant_id: int
    id: int
    tenant: str
    path: str


FIND_RETENTION_TERMS: Final = statement(
    "find_retention_terms",
    "What policies say about a repository, and whether and where anything may be deleted.",
    select(func.retention_terms(TENANT_ID, REPOSITORY_ID, type_=JSONB)),
    TermsRow,
)


async def find_retention_terms(tx: Transaction, repository: RepositoryRow) -> Mapping[str, Any] | None:
    """The terms, None when there is no such repository (any more)."""
    row = await tx.one(FIND_RETENTION_TERMS, tenant_id=repository.tenant_id, repository_id=repository.id)
    return None if row is None else row.terms


_decisions = func.retention_verdicts(TENANT_ID, REPOSITORY_ID, parameter("terms", JSONB())).table_valued(
    column("tag", Text()),
    column("digest", DigestType()),
    column("pushed_at", DateTime(timezone=True)),
    column("pulled_at", DateTime(timezone=True)),
    column("deletes", Boolean()),
    column("reason", Text()),
    column("policy_id", BigInteger()),
    column("priority", Integer()),
    column("because_of", Text()),
    name="decisions",
)

LIST_RETENTION_DECISIONS: Final = statement(
    "list_retention_decisions",
    "What becomes of each tag and untagged manifest of a repository, in one snapshot. The terms were read before: "
    "together it would take 24 locks.",
    select(*_decisions.c),
    DecisionRow,
)


async def list_retention_decisions(
    tx: Transaction, repository: RepositoryRow, terms: Mapping[str, Any]
) -> list[DecisionRow]:
    """All decisions by these terms, by tag, then those about manifests."""
    return await tx.all(
        LIST_RETENTION_DECISIONS,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        terms=json_value(dict(terms)),
    )


_ONLY_TENANT: Final = parameter("only_tenant", Text())

LIST_RETENTION_RULES: Final = statement(
    "list_retention_rules",
    "The rules of all policies, or of one tenant's.",
    select(
        tenants.c.name,
        repositories.c.path,
        retention_policies.c.id,
        retention_policies.c.kind,
        retention_policies.c.set_at,
        retention_policies.c.set_by,
        retention_rules.c.priority,
        retention_rules.c.action,
        retention_rules.c.selects,
        retention_rules.c.patterns,
        retention_rules.c.criterion,
        retention_rules.c.latest,
        retention_rules.c.age,
    )
    .select_from(
        retention_policies.join(
            retention_rules,
            (retention_rules.c.tenant_id == retention_policies.c.tenant_id)
            & (retention_rules.c.policy_id == retention_policies.c.id),
        )
        .join(tenants, tenants.c.id == retention_policies.c.tenant_id)
        .outerjoin(
            repositories,
            (repositories.c.tenant_id == retention_policies.c.tenant_id)
            & (repositories.c.id == retention_policies.c.repository_id),
        )
    )
    .where(
        tenants.c.deleted_at.is_(None),
        repositories.c.deleted_at.is_(None),
        or_(_ONLY_TENANT.is_(None), tenants.c.name == _ONLY_TENANT),
    )
    .order_by(tenants.c.name, repositories.c.path.nulls_first(), retention_rules.c.priority),
    RuleRow,
)


async def list_retention_rules(tx: Transaction, *, tenant: str | None = None) -> list[RuleRow]:
    """Rules by tenant, repository (the tenant's own policy first) and priority."""
    return await tx.all(LIST_RETENTION_RULES, only_tenant=tenant)


_ONLY_REPOSITORY: Final = parameter("only_repository_id", BigInteger())

DELETE_RETENTION_POLICY: Final = statement(
    "delete_retention_policy",
    "The policy of a tenant, or of one of its repositories, goes with its rules.",
    delete(retention_policies).where(
        retention_policies.c.tenant_id == TENANT_ID,
        retention_policies.c.repository_id.is_not_distinct_from(_ONLY_REPOSITORY),
    ),
    Nothing,
)

INSERT_RETENTION_POLICY: Final = statement(
    "insert_retention_policy",
    "A policy of a tenant, or of one of its repositories.",
    insert(retention_policies)
    .values(tenant_id=TENANT_ID, repository_id=_ONLY_REPOSITORY, kind=parameter("kind", Text()), set_by=ACTOR)
    .returning(retention_policies.c.id),
    PolicyRow,
)

_new = unnested(
    {
        "priority": Integer(),
        "action": Text(),
        "selection": Text(),
        "pattern_list": Text(),
        "criterion": Text(),
        "latest": Integer(),
        "age": Interval(),
    },
    suffix="_each",
)

INSERT_RETENTION_RULES: Final = statement(
    "insert_retention_rules",
    "The rules of a policy.",
    insert(retention_rules).from_select(
        ["tenant_id", "policy_id", "priority", "action", "selects", "patterns", "criterion", "latest", "age"],
        select(
            TENANT_ID,
            parameter("policy_id", BigInteger()),
            _new.c.priority,
            _new.c.action,
            _new.c.selection,
            func.string_to_array(_new.c.pattern_list, literal_column("','", Text()), type_=ARRAY(Text())),
            _new.c.criterion,
            _new.c.latest,
            _new.c.age,
        ),
    ),
    Nothing,
)


def delete_retention_policy(tx: Transaction, tenant_id: int, repository_id: int | None) -> None:
    """Forgets the policy, if there is one."""
    tx.queue(DELETE_RETENTION_POLICY, tenant_id=tenant_id, only_repository_id=repository_id)


async def insert_retention_policy(
    tx: Transaction, tenant_id: int, repository_id: int | None, rules: Mapping[str, list[Any]], *, kind: str, actor: str
) -> int:
    """The id of a new policy with these rules: lists of one length by column, patterns joined by commas."""
    row = await tx.one(
        INSERT_RETENTION_POLICY, tenant_id=tenant_id, only_repository_id=repository_id, kind=kind, actor=actor
    )
    if row is None:
        raise AssertionError("an insert gives its row")
    tx.queue(
        INSERT_RETENTION_RULES,
        tenant_id=tenant_id,
        policy_id=row.id,
        **{f"{name}_each": values for name, values in rules.items()},
    )
    return row.id


LIST_RETAINED_REPOSITORIES: Final = statement(
    "list_retained_repositories",
    "A page of the repositories that some policy is for, their own or their tenant's.",
    select(repositories.c.tenant_id, repositories.c.id, tenants.c.name, repositories.c.path)
    .select_from(repositories.join(tenants, tenants.c.id == repositories.c.tenant_id))
    .where(
        repositories.c.deleted_at.is_(None),
        tenants.c.deleted_at.is_(None),
        or_(_ONLY_TENANT.is_(None), tenants.c.name == _ONLY_TENANT),
        tuple_(repositories.c.tenant_id, repositories.c.id) > tuple_(TENANT_ID, REPOSITORY_ID),
        exists().where(
            retention_policies.c.tenant_id == repositories.c.tenant_id,
            or_(
                retention_policies.c.repository_id.is_(None),
                retention_policies.c.repository_id == repositories.c.id,
            ),
        ),
    )
    .order_by(repositories.c.tenant_id, repositories.c.id)
    .limit(LIMIT),
    RetainedRow,
)


async def list_retained_repositories(
    tx: Transaction, *, tenant: str | None, after: tuple[int, int], limit: int
) -> list[RetainedRow]:
    """Repositories with a policy, behind ``after`` (tenant's id, repository's id)."""
    return await tx.all(
        LIST_RETAINED_REPOSITORIES, only_tenant=tenant, tenant_id=after[0], repository_id=after[1], limit=limit
    )
