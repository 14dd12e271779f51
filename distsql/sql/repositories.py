"""Repositories and their tenants: statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, DateTime, Text, case, func, literal_column, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert

from distsql.errors import CatalogueUnavailableError
from distsql.oci.names import RepositoryName
from distsql.sql.statements import (
    ACTOR,
    LIMIT,
    ONE,
    PATH,
    REPOSITORY_ID,
    TENANT,
    TENANT_ID,
    name_parameters,
    named_repository,
    parameter,
    statement,
    unnested,
)
from distsql.sql.tables import manifests, repositories, tags, tenants
from distsql.sql.transactions import Transaction
from distsql.sql.usage import add_usage


class RepositoryRow(NamedTuple):
    """Where a repository's rows are."""

    tenant_id: int
    id: int
    sparse: bool


class TenantRow(NamedTuple):
    """A tenant's id."""

    id: int


class UncountedRow(NamedTuple):
    """What is in a repository that was deleted."""

    manifests: int
    tags: int


class NameRow(NamedTuple):
    """A repository's name in two parts."""

    tenant: str
    path: str


_joined, _repository = named_repository()

FIND_REPOSITORY: Final = statement(
    "find_repository",
    "The ids behind a repository's name.",
    select(_repository.c.tenant_id, _repository.c.id, _repository.c.sparse).select_from(_joined),
    RepositoryRow,
)


async def find_repository(tx: Transaction, name: RepositoryName) -> RepositoryRow | None:
    """The repository's ids, or None when there is none of this name."""
    return await tx.one(FIND_REPOSITORY, **name_parameters(name))


ENSURE_TENANT: Final = statement(
    "ensure_tenant",
    "A tenant comes to be with its first repository, and the transaction goes on as that tenant.",
    select(func.ensure_tenant(TENANT, type_=BigInteger()).label("id")),
    TenantRow,
)

INSERT_REPOSITORY: Final = statement(
    "insert_repository",
    "A repository comes to be with the first write to it; another transaction may have been faster.",
    insert(repositories)
    .from_select(["tenant_id", "path"], select(tenants.c.id, PATH).where(tenants.c.name == TENANT))
    .on_conflict_do_nothing()
    .returning(repositories.c.tenant_id, repositories.c.id, repositories.c.sparse),
    RepositoryRow,
)


INSERT_REPOSITORY_OF_TENANT: Final = statement(
    "insert_repository_of_tenant",
    "The same where the tenant's id is known: looking its name up would be two more locks.",
    insert(repositories)
    .values(tenant_id=TENANT_ID, path=PATH)
    .on_conflict_do_nothing()
    .returning(repositories.c.tenant_id, repositories.c.id, repositories.c.sparse),
    RepositoryRow,
)


async def insert_repository(
    tx: Transaction, name: RepositoryName, *, tenant_id: int | None = None
) -> tuple[RepositoryRow, bool]:
    """The repository's ids, and whether it was made just now.

    Without the tenant's id, its name is looked up, and it is made too when there is none.
    """
    if tenant_id is None:
        tx.queue(ENSURE_TENANT, tenant=name.tenant)
        made = await tx.one(INSERT_REPOSITORY, tenant=name.tenant, path=name.path)
    else:
        made = await tx.one(INSERT_REPOSITORY_OF_TENANT, tenant_id=tenant_id, path=name.path)
    if made:
        add_usage(tx, made.tenant_id, repositories=1)
        return made, True
    found = await find_repository(tx, name)
    if found is None:  # made by somebody else meanwhile, and removed again
        raise CatalogueUnavailableError(f"The repository {name} is just being removed; try again")
    return found, False


FIND_TENANT: Final = statement(
    "find_tenant", "The id behind a tenant's name.", select(tenants.c.id).where(tenants.c.name == TENANT), TenantRow
)


async def find_tenant(tx: Transaction, tenant: str) -> int | None:
    """The tenant's id, or None."""
    row = await tx.one(FIND_TENANT, tenant=tenant)
    return row.id if row else None


_NEVER: Final = literal_column("'infinity'", DateTime(timezone=True))

# In the order of the key, and with a limit that nobody reaches: else the planner reads everybody's manifests, where one
# repository has most of them.
_MOST: Final = parameter("most", BigInteger())
_in_order = (
    select(manifests.c.deleted_at)
    .where(manifests.c.tenant_id == TENANT_ID, manifests.c.repository_id == REPOSITORY_ID)
    .order_by(manifests.c.digest)
    .limit(_MOST)
    .subquery("here")
)
_live_manifests = select(func.count()).where(_in_order.c.deleted_at.is_(None)).scalar_subquery()
_live_tags = (
    select(func.count())
    .where(tags.c.tenant_id == TENANT_ID, tags.c.repository_id == REPOSITORY_ID, tags.c.valid_to.is_(None))
    .scalar_subquery()
)

MARK_REPOSITORY_DELETED: Final = statement(
    "mark_repository_deleted",
    "A repository is deleted: it is there for nobody any more, and counts no more. Its rows go with the garbage.",
    update(repositories)
    .where(
        repositories.c.tenant_id == TENANT_ID,
        repositories.c.id == REPOSITORY_ID,
        # Not `is null`, by which the planner would take the index of names, and read all of the tenant's.
        func.coalesce(repositories.c.deleted_at, _NEVER) == _NEVER,
    )
    .values(
        deleted_at=func.now(),
        deleted_by=ACTOR,
        # Whoever found it earlier may add to it, or delete from it, still: what is purged in the end is counted too, so
        # that nothing is counted twice.
        uncounted_manifests=_live_manifests,
        uncounted_tags=_live_tags,
    )
    .returning(repositories.c.uncounted_manifests, repositories.c.uncounted_tags),
    UncountedRow,
)


async def mark_repository_deleted(tx: Transaction, repository: RepositoryRow, *, actor: str) -> bool:
    """Whether the repository was there until now. Its name is free again, and what was in it doesn't count any more."""
    row = await tx.one(
        MARK_REPOSITORY_DELETED,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        actor=actor,
        most=2**62,
    )
    if row is not None:
        add_usage(tx, repository.tenant_id, repositories=-1, manifests=-row.manifests, tags=-row.tags)
    return row is not None


# Names are listed in the byte order of the full name. A tenant's name with its slash sorts as full names do, and no
# such prefix is another's, so (tenant and slash, path) is that order. Each tenant gives at most one page: flat at any
# depth.
_AFTER_PREFIX: Final = parameter("after_prefix", Text(collation="C"))
_AFTER_PATH: Final = parameter("after_path", Text(collation="C"))
_prefix = tenants.c.name + literal_column("'/'", Text())
_tenants = (
    select(tenants.c.id, tenants.c.name, _prefix.label("prefix"))
    .where(_prefix >= _AFTER_PREFIX)
    .order_by(_prefix)
    .subquery("tenant")
)
_paths = (
    select(repositories.c.path)
    .where(
        repositories.c.tenant_id == _tenants.c.id,
        repositories.c.deleted_at.is_(None),
        # A condition of the index: "or" would be a filter, and read the tenant's names from the first one on.
        repositories.c.path
        > case((_tenants.c.prefix > _AFTER_PREFIX, literal_column("''", Text(collation="C"))), else_=_AFTER_PATH),
    )
    .order_by(repositories.c.path)
    .limit(LIMIT)
    .lateral("repository")
)

LIST_REPOSITORIES: Final = statement(
    "list_repositories",
    "A page of all repositories, by full name.",
    select(_tenants.c.name, _paths.c.path)
    .select_from(_tenants.join(_paths, true()))
    .order_by(_tenants.c.prefix, _paths.c.path)
    .limit(LIMIT),
    NameRow,
)

_tenant = select(tenants.c.id, tenants.c.name).where(tenants.c.name == TENANT).limit(ONE).subquery("tenant")
_tenant_paths = (
    select(repositories.c.path)
    .where(
        repositories.c.tenant_id == _tenant.c.id,
        repositories.c.deleted_at.is_(None),
        repositories.c.path > _AFTER_PATH,
    )
    .order_by(repositories.c.path)
    .limit(LIMIT)
    .lateral("repository")
)

LIST_TENANT_REPOSITORIES: Final = statement(
    "list_tenant_repositories",
    "A page of one tenant's repositories, by path.",
    select(_tenant.c.name, _tenant_paths.c.path)
    .select_from(_tenant.join(_tenant_paths, true()))
    .order_by(_tenant_paths.c.path),
    NameRow,
)


_spans = unnested({"lower": Text(), "upper": Text(), "likeness": Text()}, suffix="_bounds")
_span_paths = (
    select(repositories.c.path)
    .where(
        repositories.c.tenant_id == _tenant.c.id,
        repositories.c.deleted_at.is_(None),
        repositories.c.path > _AFTER_PATH,
        repositories.c.path >= _spans.c.lower,
        repositories.c.path < _spans.c.upper,
        # Of a span that is no range of the index alone.
        or_(_spans.c.likeness == literal_column("''", Text()), repositories.c.path.regexp_match(_spans.c.likeness)),
    )
    .order_by(repositories.c.path)
    .limit(LIMIT)
    .lateral("repository")
)

LIST_REPOSITORIES_IN_SPANS: Final = statement(
    "list_repositories_in_spans",
    "A page of those of a tenant's repositories that an account may pull from, by path.",
    select(_tenant.c.name, _span_paths.c.path)
    .distinct()
    .select_from(_tenant.join(_spans, true()).join(_span_paths, true()))
    .order_by(_span_paths.c.path)
    .limit(LIMIT),
    NameRow,
)


async def list_repositories_in_spans(
    tx: Transaction, spans: Sequence[tuple[str, str, str]], *, tenant: str, after: tuple[str, str], limit: int
) -> list[NameRow]:
    """Names behind ``after`` whose paths are in one of the spans: from a path on, before a path, like an expression.

    Each span gives at most one page: what isn't in any of them is not read, however much there is.
    """
    path = _path_behind(tenant, after)
    if path is None or not spans:
        return []
    lower, upper, likeness = (list(each) for each in zip(*spans, strict=True))
    return await tx.all(
        LIST_REPOSITORIES_IN_SPANS,
        tenant=tenant,
        lower_bounds=lower,
        upper_bounds=upper,
        likeness_bounds=likeness,
        after_path=path,
        limit=limit,
    )


async def list_repositories(tx: Transaction, *, tenant: str, after: tuple[str, str], limit: int) -> list[NameRow]:
    """Names behind ``after`` (tenant, path); of one tenant, or with an empty ``tenant`` of all."""
    if tenant:
        path = _path_behind(tenant, after)
        if path is None:
            return []
        return await tx.all(LIST_TENANT_REPOSITORIES, tenant=tenant, after_path=path, limit=limit)
    return await tx.all(LIST_REPOSITORIES, after_prefix=after[0] + "/", after_path=after[1], limit=limit)


def _path_behind(tenant: str, after: tuple[str, str]) -> str | None:
    """Behind which path the tenant's names begin; None when all of them are before ``after``.

    Another tenant's name sorts wholly before or wholly behind this one's.
    """
    if after[0] == tenant:
        return after[1]
    return None if after[0] + "/" > tenant + "/" else ""
