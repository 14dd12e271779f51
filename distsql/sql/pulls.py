"""What was pulled: statements of the owner's, each for many repositories at once.

Every server writes in the order of the keys, so that no two wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Date,
    DateTime,
    FromClause,
    Table,
    TableValuedAlias,
    Text,
    func,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.types import TypeEngine

from distsql.oci.digest import Digest
from distsql.sql.database import Transaction
from distsql.sql.pull_tables import daily_pulls, manifest_pulls, tag_pulls
from distsql.sql.statements import ONE, Nothing, statement, unnested
from distsql.sql.tables import manifests, repositories, tenants
from distsql.sql.types import DigestType


class DailyPulls(NamedTuple):
    """What one kind of actor was given out of a repository on a day."""

    tenant: str
    path: str
    day: date
    actor_kind: str
    requests: int
    pulls: int
    sent_bytes: int
    redirected_bytes: int


class ManifestPulls(NamedTuple):
    """How often a manifest was given out, and when last."""

    tenant: str
    path: str
    digest: Digest
    pulls: int
    last_pulled_at: datetime


class TagPulls(NamedTuple):
    """How often a manifest was given out by a tag, and when the tag was asked for last."""

    tenant: str
    path: str
    name: str
    pulls: int
    last_pulled_at: datetime


_NAMES: Final[dict[str, TypeEngine[Any]]] = {"tenant": Text(), "path": Text()}
_LAST: Final[dict[str, TypeEngine[Any]]] = {"pulls": BigInteger(), "last_pulled_at": DateTime(timezone=True)}


def _with_repository(new: TableValuedAlias) -> tuple[FromClause, FromClause]:
    """The live repository of each name, one by one; it stays until the end of the transaction."""
    tenant = select(tenants.c.id).where(tenants.c.name == new.c.tenant).limit(ONE).lateral("tenant")
    repository = (
        select(repositories.c.tenant_id, repositories.c.id)
        .where(
            repositories.c.tenant_id == tenant.c.id,
            repositories.c.path == new.c.path,
            repositories.c.deleted_at.is_(None),
        )
        .limit(ONE)
        .with_for_update(key_share=True, read=True)
        .lateral("repository")
    )
    return new.join(tenant, true()).join(repository, true()), repository


def _adding(table: Table, values: dict[str, ColumnElement[Any]], source: FromClause, counts: Sequence[str]) -> Insert:
    """Rows in the order of their keys; what is there already is added to."""
    key = [column.name for column in table.primary_key]
    rows = select(*(value.label(name) for name, value in values.items())).select_from(source)
    new = insert(table).from_select(list(values), rows.order_by(*(values[name] for name in key)))
    changes: dict[str, Any] = {name: table.c[name] + new.excluded[name] for name in counts}
    if "last_pulled_at" in values:
        changes["last_pulled_at"] = func.greatest(table.c.last_pulled_at, new.excluded.last_pulled_at)
    return new.on_conflict_do_update(index_elements=key, set_=changes)


def _values(new: TableValuedAlias, repository: FromClause, *names: str) -> dict[str, ColumnElement[Any]]:
    return {
        "tenant_id": repository.c.tenant_id,
        "repository_id": repository.c.id,
        **{name: new.c[name] for name in names},
    }


_COUNTS: Final = ("requests", "pulls", "sent_bytes", "redirected_bytes")
_days = unnested(
    {**_NAMES, "day": Date(), "actor_kind": Text(), **dict.fromkeys(_COUNTS, BigInteger())}, suffix="_each"
)
_joined, _repository = _with_repository(_days)

ADD_DAILY_PULLS: Final = statement(
    "add_daily_pulls",
    "What was given out of repositories since the last time, by day and kind of actor.",
    _adding(daily_pulls, _values(_days, _repository, "day", "actor_kind", *_COUNTS), _joined, _COUNTS),
    Nothing,
)

_pulled = unnested({**_NAMES, "digest": DigestType(), **_LAST}, suffix="_each")
_joined, _repository = _with_repository(_pulled)
_manifest = (
    select(manifests.c.digest)
    .where(
        manifests.c.tenant_id == _repository.c.tenant_id,
        manifests.c.repository_id == _repository.c.id,
        manifests.c.digest == _pulled.c.digest,
    )
    .limit(ONE)
    .with_for_update(key_share=True, read=True)
    .lateral("manifest")
)

ADD_MANIFEST_PULLS: Final = statement(
    "add_manifest_pulls",
    "Manifests that were given out since the last time; those that are gone are left out.",
    _adding(
        manifest_pulls,
        _values(_pulled, _repository, "digest", *_LAST),
        _joined.join(_manifest, true()),
        ["pulls"],
    ),
    Nothing,
)

_asked = unnested({**_NAMES, "name": Text(), **_LAST}, suffix="_each")
_joined, _repository = _with_repository(_asked)

ADD_TAG_PULLS: Final = statement(
    "add_tag_pulls",
    "Tags that were asked for since the last time.",
    _adding(tag_pulls, _values(_asked, _repository, "name", *_LAST), _joined, ["pulls"]),
    Nothing,
)


async def add_pulls(
    tx: Transaction, *, days: Sequence[DailyPulls], manifests: Sequence[ManifestPulls], tags: Sequence[TagPulls]
) -> None:
    """Adds to what was pulled before. What belongs to no live repository (any more) is left out."""
    for each, rows in ((ADD_DAILY_PULLS, days), (ADD_MANIFEST_PULLS, manifests), (ADD_TAG_PULLS, tags)):
        if rows:
            await tx.all(each, **_arrays(rows))


def _arrays(rows: Sequence[DailyPulls] | Sequence[ManifestPulls] | Sequence[TagPulls]) -> dict[str, list[object]]:
    return {f"{name}_each": list(column) for name, column in zip(rows[0]._fields, zip(*rows, strict=True), strict=True)}
