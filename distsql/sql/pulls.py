"""What was pulled: statements of the owner's, each for many repositories at once.

Every server writes in the order of the keys, so that no two wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Date,
    DateTime,
    FromClause,
    Interval,
    Table,
    TableValuedAlias,
    Text,
    bindparam,
    func,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.types import TypeEngine

from distsql.oci.digest import Digest
from distsql.sql.database import Transaction
from distsql.sql.pull_tables import daily_pulls, manifest_pulls, tag_pulls
from distsql.sql.statements import LIMIT, ONE, Nothing, statement, unnested
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


class ForgottenRow(NamedTuple):
    """A page of tags that were looked at: its last one, and how many are forgotten."""

    tenant_id: int
    repository_id: int
    name: str
    forgotten: int


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


FORGET_TAG_PULLS: Final = statement(
    "forget_tag_pulls",
    "A page of tags in the order of their keys, of which those that ended long ago are forgotten.",
    text(
        """
with page as (
    select p.tenant_id, p.repository_id, p.name from tag_pulls p
    where (p.tenant_id, p.repository_id, p.name) > (:tenant_id, :repository_id, cast(:name as text) collate "C")
    order by p.tenant_id, p.repository_id, p.name limit :limit
), ended as (
    select p.tenant_id, p.repository_id, p.name from page
    join tag_pulls p using (tenant_id, repository_id, name)
    where p.last_pulled_at < now() - :age
    and not exists (
        select from tags g where g.tenant_id = p.tenant_id and g.repository_id = p.repository_id and g.name = p.name
        and (g.valid_to is null or g.valid_to > now() - :age)
    )
    -- The last one of a repository stays: it says that the repository was pulled from.
    and exists (
        select from tag_pulls o where o.tenant_id = p.tenant_id and o.repository_id = p.repository_id
        and (o.last_pulled_at, o.name) > (p.last_pulled_at, p.name)
    )
    for update of p skip locked
), forgotten as (
    delete from tag_pulls p using ended e
    where p.tenant_id = e.tenant_id and p.repository_id = e.repository_id and p.name = e.name
)
select tenant_id, repository_id, name, (select count(*) from ended) as forgotten
from page order by tenant_id desc, repository_id desc, name desc limit 1
"""
    ).bindparams(
        *(bindparam(name, type_=BigInteger()) for name in ("tenant_id", "repository_id")),
        bindparam("name", type_=Text()),
        bindparam("age", type_=Interval()),
        LIMIT,
    ),
    ForgottenRow,
)


async def forget_tag_pulls(
    tx: Transaction, *, after: tuple[int, int, str], age: timedelta, limit: int
) -> ForgottenRow | None:
    """Looks at the tags behind one of them, and forgets those that ended longer ago; None when there are no more."""
    return await tx.one(
        FORGET_TAG_PULLS, tenant_id=after[0], repository_id=after[1], name=after[2], age=age, limit=limit
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
