"""What was pulled: batches of what servers counted are added to the rows, by one server at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import ARRAY, BigInteger, Interval, Text, bindparam, text

from distsql.sql.pull_batches import delete_pull_batches, lock_pull_batches
from distsql.sql.statements import LIMIT, Nothing, statement
from distsql.sql.transactions import Transaction


class ForgottenRow(NamedTuple):
    """A page of tags that were looked at: its last one, and how many are forgotten."""

    tenant_id: int
    repository_id: int
    name: str
    forgotten: int


_IDS: Final = bindparam("ids", type_=ARRAY(BigInteger()))
# Once for each name in a batch, not for each of its rows; as lists, so that a thing's repository is at its place.
# Joined by their places PostgreSQL compares all with all, as it takes lists for short. A repository that is found stays
# until the end; 0: there is none.
_NAMED: Final = """
with named as materialized (
    select b.id, array_agg(coalesce(r.tenant_id, 0) order by n.place) as tenant_ids,
        array_agg(coalesce(r.id, 0) order by n.place) as repository_ids
    from pull_batches b
    cross join lateral unnest(b.tenants, b.paths) with ordinality n (tenant, path, place)
    left join lateral (
        select r.tenant_id, r.id
        from (select t.id from tenants t where t.name = n.tenant limit 1) t
        cross join lateral (
            select r.tenant_id, r.id from repositories r
            where r.tenant_id = t.id and r.path = n.path and r.deleted_at is null limit 1 for key share
        ) r
    ) r on true
    where b.tenant_id = 0 and b.id = any (:ids)
    group by b.id
), batch as (
    select n.tenant_ids, n.repository_ids, b.* from named n join pull_batches b on b.tenant_id = 0 and b.id = n.id
), """
_OF_ITS: Final = """
    cross join lateral (
        select b.tenant_ids[e.place] as tenant_id, b.repository_ids[e.place] as repository_id
    ) n
    where n.repository_id <> 0"""
# What is there is updated, without a look at what it refers to; only what is new is inserted, in the order of its key.
# Usually all is there: then nothing is looked for twice.
_SUMS: Final = "sum(e.pulls)::bigint as pulls, max(b.written_at) as last_pulled_at"

ADD_DAILY_PULLS: Final = statement(
    "add_daily_pulls",
    "What was given out of repositories since the last time, by day and kind of actor.",
    text(
        f"""{_NAMED}
counted as (
    select n.tenant_id, e.day, n.repository_id, e.actor_kind,
        sum(e.requests)::bigint as requests, sum(e.pulls)::bigint as pulls,
        sum(e.sent_bytes)::bigint as sent_bytes, sum(e.redirected_bytes)::bigint as redirected_bytes
    from batch b
    cross join lateral unnest(
        b.days, b.actor_kinds, b.requests, b.pulls, b.sent, b.redirected
    ) with ordinality e (day, actor_kind, requests, pulls, sent_bytes, redirected_bytes, place){_OF_ITS}
    group by n.tenant_id, e.day, n.repository_id, e.actor_kind
)
insert into daily_pulls as p (
    tenant_id, day, repository_id, actor_kind, requests, pulls, sent_bytes, redirected_bytes
)
select * from counted order by tenant_id, day, repository_id, actor_kind
on conflict (tenant_id, day, repository_id, actor_kind) do update set
    requests = p.requests + excluded.requests, pulls = p.pulls + excluded.pulls,
    sent_bytes = p.sent_bytes + excluded.sent_bytes,
    redirected_bytes = p.redirected_bytes + excluded.redirected_bytes
"""  # noqa: S608  # of constants
    ).bindparams(_IDS),
    Nothing,
)

ADD_MANIFEST_PULLS: Final = statement(
    "add_manifest_pulls",
    "Manifests that were given out since the last time; those that are gone are left out.",
    text(
        f"""{_NAMED}
pulled as materialized (
    select n.tenant_id, n.repository_id, e.digest, {_SUMS}
    from batch b
    cross join lateral unnest(b.asked_places, b.asked_digests, b.asked_pulls)
        e (place, digest, pulls){_OF_ITS} and e.digest is not null
    group by n.tenant_id, n.repository_id, e.digest
), known as (
    update manifest_pulls p
    set pulls = p.pulls + n.pulls, last_pulled_at = greatest(p.last_pulled_at, n.last_pulled_at)
    from pulled n
    where p.tenant_id = n.tenant_id and p.repository_id = n.repository_id and p.digest = n.digest
    returning 1
), unknown as materialized (
    select n.* from pulled n
    where (select count(*) from known) < (select count(*) from pulled)
    and not exists (
        select from manifest_pulls o
        where o.tenant_id = n.tenant_id and o.repository_id = n.repository_id and o.digest = n.digest
    )
)
insert into manifest_pulls as p (tenant_id, repository_id, digest, pulls, last_pulled_at)
select n.* from unknown n
cross join lateral (
    select from manifests m
    where m.tenant_id = n.tenant_id and m.repository_id = n.repository_id and m.digest = n.digest
    limit 1 for key share
) m
order by n.tenant_id, n.repository_id, n.digest
on conflict (tenant_id, repository_id, digest) do update set
    pulls = p.pulls + excluded.pulls, last_pulled_at = greatest(p.last_pulled_at, excluded.last_pulled_at)
"""  # noqa: S608  # of constants
    ).bindparams(_IDS),
    Nothing,
)

ADD_TAG_PULLS: Final = statement(
    "add_tag_pulls",
    "Tags that were asked for since the last time.",
    text(
        f"""{_NAMED}
asked as materialized (
    select n.tenant_id, n.repository_id, e.name collate "C" as name, {_SUMS}
    from batch b
    cross join lateral unnest(b.asked_places, b.asked_tags, b.asked_pulls)
        e (place, name, pulls){_OF_ITS} and e.name is not null
    group by n.tenant_id, n.repository_id, e.name collate "C"
), known as (
    update tag_pulls p
    set pulls = p.pulls + n.pulls, last_pulled_at = greatest(p.last_pulled_at, n.last_pulled_at)
    from asked n
    where p.tenant_id = n.tenant_id and p.repository_id = n.repository_id and p.name = n.name
    returning 1
)
insert into tag_pulls as p (tenant_id, repository_id, name, pulls, last_pulled_at)
select n.* from asked n
where (select count(*) from known) < (select count(*) from asked)
and not exists (
    select from tag_pulls o
    where o.tenant_id = n.tenant_id and o.repository_id = n.repository_id and o.name = n.name
)
order by n.tenant_id, n.repository_id, n.name
on conflict (tenant_id, repository_id, name) do update set
    pulls = p.pulls + excluded.pulls, last_pulled_at = greatest(p.last_pulled_at, excluded.last_pulled_at)
"""  # noqa: S608  # of constants
    ).bindparams(_IDS),
    Nothing,
)


async def add_pulls(tx: Transaction, *, limit: int) -> int:
    """Adds the oldest batches to what was pulled before, and tells how many they were.

    What belongs to no live repository (any more) is left out.
    """
    ids = await lock_pull_batches(tx, limit=limit)
    if ids:
        for each in (ADD_DAILY_PULLS, ADD_MANIFEST_PULLS, ADD_TAG_PULLS):
            tx.queue(each, ids=ids)
        delete_pull_batches(tx, ids)
    return len(ids)


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
