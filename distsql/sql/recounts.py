"""What tenants use, counted anew: statements of `distsql verify`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Select, Text, func, literal_column, select, union_all

from distsql.sql.statements import statement
from distsql.sql.tables import blobs, manifests, repositories, tags, tenants
from distsql.sql.tenant_tables import tenant_usage
from distsql.sql.transactions import Transaction
from distsql.sql.usage import MEASURES, UseRow, correct_usage


class TenantRecount(NamedTuple):
    """A tenant's use, as it is kept and as it is."""

    tenant_id: int
    tenant: str
    counted: UseRow
    found: UseRow


class _RecountRow(NamedTuple):
    tenant_id: int
    tenant: str
    counted_bytes: int
    counted_repositories: int
    counted_manifests: int
    counted_tags: int
    found_bytes: int
    found_repositories: int
    found_manifests: int
    found_tags: int


_ZERO: Final = literal_column("0", BigInteger())


def _part(tenant_id: ColumnElement[int], **measures: ColumnElement[int]) -> Select[*tuple[Any, ...]]:
    """Rows that add to some measures of tenants, and nothing to the others."""
    return select(
        tenant_id.label("tenant_id"),
        *(measures.get(f"counted_{measure}", _ZERO).label(f"counted_{measure}") for measure in MEASURES),
        *(measures.get(f"found_{measure}", _ZERO).label(f"found_{measure}") for measure in MEASURES),
    )


# What was taken out of the use when a repository was deleted, is put back as its rows are found: those that came, or
# went, later are then in it as they are counted.
_parts = union_all(
    _part(
        tenant_usage.c.tenant_id,
        **{f"counted_{measure}": func.sum(tenant_usage.c[measure]).cast(BigInteger) for measure in MEASURES},
    ).group_by(tenant_usage.c.tenant_id),
    _part(blobs.c.tenant_id, found_stored_bytes=func.sum(blobs.c.length).cast(BigInteger))
    .where(blobs.c.state == literal_column("'live'", Text()))
    .group_by(blobs.c.tenant_id),
    _part(
        repositories.c.tenant_id,
        found_repositories=func.count().filter(repositories.c.deleted_at.is_(None)),
        found_manifests=-func.sum(repositories.c.uncounted_manifests).cast(BigInteger),
        found_tags=-func.sum(repositories.c.uncounted_tags).cast(BigInteger),
    ).group_by(repositories.c.tenant_id),
    _part(manifests.c.tenant_id, found_manifests=func.count())
    .where(manifests.c.deleted_at.is_(None))
    .group_by(manifests.c.tenant_id),
    _part(tags.c.tenant_id, found_tags=func.count()).where(tags.c.valid_to.is_(None)).group_by(tags.c.tenant_id),
).subquery("part")
_SUMS: Final = tuple(func.sum(column).cast(BigInteger) for column in list(_parts.c)[1:])

LIST_USES: Final = statement(
    "list_uses",
    "What each tenant uses, as it is kept and as it is, in one snapshot: a walk over everything.",
    select(_parts.c.tenant_id, tenants.c.name, *(sum_.label(f"sum_{at}") for at, sum_ in enumerate(_SUMS)))
    .select_from(_parts.join(tenants, tenants.c.id == _parts.c.tenant_id))
    .where(tenants.c.deleted_at.is_(None))
    .group_by(_parts.c.tenant_id, tenants.c.name)
    .order_by(_parts.c.tenant_id),
    _RecountRow,
)


async def list_uses(tx: Transaction) -> list[TenantRecount]:
    """Every tenant's use, as it is kept and as it is."""
    return [
        TenantRecount(row.tenant_id, row.tenant, UseRow(*row[2:6]), UseRow(*row[6:])) for row in await tx.all(LIST_USES)
    ]


async def mend_uses(tx: Transaction) -> list[TenantRecount]:
    """Makes what is kept what is: counts the difference, which is right whatever others count meanwhile."""
    wrong = [row for row in await list_uses(tx) if row.counted != row.found]
    for row in wrong:
        differences = (found - counted for found, counted in zip(row.found, row.counted, strict=True))
        correct_usage(tx, row.tenant_id, **dict(zip(MEASURES, differences, strict=True)))
    return wrong
