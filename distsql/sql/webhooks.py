"""Webhooks and what is on its way to them: statements of the owner's.

An event is an audit event that changed content: it was written in the transaction of the change, so there is one if and
only if the change committed. Once those before it are settled (`distsql.registry.audit_seals`) it is queued for each
webhook that wants it; that is done twice without harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ARRAY, BigInteger, BindParameter, DateTime, Text, bindparam, delete, select, text
from sqlalchemy.dialects.postgresql import insert

from distsql.sql.audit_seals import INSTANT
from distsql.sql.statements import ACTOR, LIMIT, TENANT, TENANT_ID, Nothing, parameter, statement
from distsql.sql.tables import tenants
from distsql.sql.transactions import Transaction
from distsql.sql.webhook_tables import webhooks

# Which changes are which events.
KINDS: Final = {
    "push": ("manifest.put", "manifest.restore", "repository.restore"),
    "tag": ("tag.put", "tag.restore"),
    "delete": ("manifest.delete", "tag.delete", "repository.delete", "garbage.manifest"),
}


class WebhookIdRow(NamedTuple):
    """A webhook's number."""

    id: int


class WebhookRow(NamedTuple):
    """A webhook, as people see it: without its secret; and what is on its way to it."""

    tenant: str
    id: int
    url: str
    format: str
    events: list[str]
    created_at: datetime
    created_by: str
    waiting: int
    oldest_at: datetime | None
    dead: int


class TargetRow(NamedTuple):
    """Where to send what, signed with what. Only for who does it."""

    tenant_id: int
    webhook_id: int
    url: str
    format: str
    secret: str
    event_at: datetime
    event_id: int
    attempts: int
    event: dict[str, Any]


class AddressRow(NamedTuple):
    """Where a webhook is, and what it is signed with. Only for who sends to it."""

    url: str
    format: str
    secret: str


class DeadRow(NamedTuple):
    """What was given up."""

    webhook_id: int
    event_at: datetime
    repository: str
    action: str
    reference: str | None
    attempts: int
    ended_at: datetime
    error: str | None


class QueuedRow(NamedTuple):
    """An event that was queued."""

    event_id: int


_WEBHOOK_ID: Final = bindparam("webhook_id", type_=BigInteger())


def _instant(name: str) -> BindParameter[datetime]:
    return bindparam(name, type_=DateTime(timezone=True))


# -- webhooks ---------------------------------------------------------------------------------------------------------

INSERT_WEBHOOK: Final = statement(
    "insert_webhook",
    "A tenant's events are sent there from now on.",
    insert(webhooks)
    .from_select(
        ["tenant_id", "url", "format", "events", "secret", "created_by"],
        select(
            tenants.c.id,
            parameter("url", Text()),
            parameter("format", Text()),
            parameter("events", ARRAY(Text())),
            parameter("secret", Text()),
            ACTOR,
        ).where(tenants.c.name == TENANT),
    )
    .returning(webhooks.c.id),
    WebhookIdRow,
)

DELETE_WEBHOOK: Final = statement(
    "delete_webhook",
    "Nothing is sent there any more, nor what was on its way.",
    delete(webhooks)
    .where(webhooks.c.tenant_id == TENANT_ID, webhooks.c.id == parameter("webhook_id", BigInteger()))
    .returning(webhooks.c.id),
    WebhookIdRow,
)

LIST_WEBHOOKS: Final = statement(
    "list_webhooks",
    "The webhooks of a tenant, or (without a name) of all, with what waits and what was given up.",
    text(
        """
select t.name as tenant, w.id, w.url, w.format, w.events, w.created_at, w.created_by, d.waiting, d.oldest_at, d.dead
from webhooks w
join tenants t on t.id = w.tenant_id
cross join lateral (
    select count(*) filter (where d.state = 'waiting') as waiting, count(*) filter (where d.state = 'dead') as dead,
        min(d.event_at) filter (where d.state = 'waiting') as oldest_at
    from webhook_deliveries d where d.tenant_id = w.tenant_id and d.webhook_id = w.id
) d
where :tenant = '' or t.name = :tenant
order by t.name, w.id
"""
    ).bindparams(TENANT),
    WebhookRow,
)

FIND_TARGET: Final = statement(
    "find_target",
    "Where a test is sent.",
    text(
        "select w.url, w.format, w.secret from webhooks w join tenants t on t.id = w.tenant_id "
        "where t.name = :tenant and w.id = :webhook_id"
    ).bindparams(TENANT, _WEBHOOK_ID),
    AddressRow,
)

LIST_DEAD_DELIVERIES: Final = statement(
    "list_dead_deliveries",
    "What was given up of a tenant's events, newest first.",
    text(
        """
select d.webhook_id, d.event_at, d.repository, d.event->>'action' as action, d.event->>'reference' as reference,
    d.attempts, d.ended_at, d.error
from webhook_deliveries d where d.tenant_id = :tenant_id and d.state = 'dead' order by d.ended_at desc limit :limit
"""
    ).bindparams(TENANT_ID, LIMIT),
    DeadRow,
)


async def insert_webhook(
    tx: Transaction,
    tenant: str,
    *,
    url: str,
    format: str,  # noqa: A002  # the column
    events: Sequence[str],
    secret: str,
    actor: str,
) -> int | None:
    """The number of the new webhook, or None when there is no such tenant."""
    row = await tx.one(
        INSERT_WEBHOOK, tenant=tenant, url=url, format=format, events=list(events), secret=secret, actor=actor
    )
    return row.id if row else None


async def delete_webhook(tx: Transaction, tenant_id: int, webhook_id: int) -> bool:
    """Whether it was there."""
    return await tx.one(DELETE_WEBHOOK, tenant_id=tenant_id, webhook_id=webhook_id) is not None


async def list_webhooks(tx: Transaction, *, tenant: str) -> list[WebhookRow]:
    """A tenant's webhooks, or with an empty name everybody's."""
    return await tx.all(LIST_WEBHOOKS, tenant=tenant)


async def find_target(tx: Transaction, *, tenant: str, webhook_id: int) -> AddressRow | None:
    """Where the webhook is, or None."""
    return await tx.one(FIND_TARGET, tenant=tenant, webhook_id=webhook_id)


async def list_dead_deliveries(tx: Transaction, tenant_id: int, *, limit: int) -> list[DeadRow]:
    """What was given up, newest first."""
    return await tx.all(LIST_DEAD_DELIVERIES, tenant_id=tenant_id, limit=limit)


# -- queueing ---------------------------------------------------------------------------------------------------------

_EVENT: Final = f"""jsonb_build_object('at', {INSTANT.format("e.at")}, 'actor', e.actor, 'action', e.action,
    'repository', e.repository, 'reference', e.reference, 'digest', digest_text(e.digest),
    'client_address', e.client_address, 'user_agent', e.user_agent, 'request_id', e.request_id,
    'media_type', m.media_type, 'length', m.length, 'tenant', t.name)"""
_WANTED: Final = " or ".join(
    f"('{kind}' = any (w.events) and e.action in ({', '.join(map(repr, actions))}))" for kind, actions in KINDS.items()
)
_QUEUE: Final = f"""
insert into webhook_deliveries (tenant_id, webhook_id, event_at, event_id, repository, event)
select e.tenant_id, w.id, e.at, e.id, coalesce(e.repository, ''), {_EVENT}
from webhooks w
join tenants t on t.id = w.tenant_id
join audit_events e on e.tenant_id = w.tenant_id and e.outcome = 'done' and ({_WANTED})
left join lateral (
    select m.media_type, m.length from manifests m
    join repositories r on r.tenant_id = m.tenant_id and r.id = m.repository_id
    where m.tenant_id = e.tenant_id and m.digest = e.digest and t.name || '/' || r.path = e.repository limit 1
) m on true
"""  # noqa: S608  # constants of this page

FIND_WEBHOOK: Final = statement(
    "find_webhook",
    "Whether anybody wants to be told of anything.",
    text("select id from webhooks limit 1"),
    WebhookIdRow,
)

QUEUE_EVENTS: Final = statement(
    "queue_events",
    "Settled events that webhooks want and that aren't queued yet; a little earlier ones are looked at again.",
    text(
        _QUEUE + "where e.at > w.created_at and e.at > least(w.queued_until, :until) - interval '10 seconds' "
        "and e.at <= :until on conflict do nothing returning event_id"
    ).bindparams(_instant("until")),
    QueuedRow,
)

ADVANCE_WEBHOOKS: Final = statement(
    "advance_webhooks",
    "Up to here all events are queued.",
    text("update webhooks set queued_until = :until where queued_until <> :until").bindparams(_instant("until")),
    Nothing,
)

REPLAY_EVENTS: Final = statement(
    "replay_events",
    "Events of an interval are sent again, under the ids that they had.",
    text(
        _QUEUE + "where w.tenant_id = :tenant_id and w.id = :webhook_id and e.at >= :since and e.at < :until "
        "on conflict (tenant_id, webhook_id, event_at, event_id) do update set state = 'waiting', attempts = 0, "
        "next_at = now(), ended_at = null, error = null returning event_id"
    ).bindparams(TENANT_ID, _WEBHOOK_ID, _instant("since"), _instant("until")),
    QueuedRow,
)


async def is_anybody_told(tx: Transaction) -> bool:
    """Whether there is any webhook."""
    return await tx.one(FIND_WEBHOOK) is not None


async def queue_events(tx: Transaction, *, until: datetime) -> int:
    """How many deliveries were queued: of all events up to an instant before which all are settled."""
    queued = await tx.all(QUEUE_EVENTS, until=until)
    tx.queue(ADVANCE_WEBHOOKS, until=until)
    return len(queued)


async def replay_events(tx: Transaction, tenant_id: int, webhook_id: int, *, since: datetime, until: datetime) -> int:
    """How many events of the interval are sent again."""
    return len(await tx.all(REPLAY_EVENTS, tenant_id=tenant_id, webhook_id=webhook_id, since=since, until=until))


# -- delivering -------------------------------------------------------------------------------------------------------

CLAIM_DELIVERIES: Final = statement(
    "claim_deliveries",
    "Due events, of each webhook and repository the first that waits; nobody else sends them for a while.",
    text(
        """
with recursive first as (
    (
        select d.tenant_id, d.webhook_id, d.repository, d.event_at, d.event_id, d.next_at from webhook_deliveries d
        where d.state = 'waiting'
        order by d.tenant_id, d.webhook_id, d.repository, d.event_at, d.event_id limit 1
    )
    union all
    select following.* from first f cross join lateral (
        select d.tenant_id, d.webhook_id, d.repository, d.event_at, d.event_id, d.next_at from webhook_deliveries d
        where d.state = 'waiting'
        and (d.tenant_id, d.webhook_id, d.repository) > (f.tenant_id, f.webhook_id, f.repository)
        order by d.tenant_id, d.webhook_id, d.repository, d.event_at, d.event_id limit 1
    ) following
), due as (
    select taken.place from (select * from first where next_at <= now() order by next_at limit :limit) f
    cross join lateral (
        select d.ctid as place from webhook_deliveries d
        where d.tenant_id = f.tenant_id and d.webhook_id = f.webhook_id
        and d.event_at = f.event_at and d.event_id = f.event_id and d.state = 'waiting' and d.next_at <= now()
        for update skip locked
    ) taken
)
update webhook_deliveries d
set attempts = d.attempts + 1, next_at = now() + interval '1 minute'
from due, webhooks w
where d.ctid = due.place and w.tenant_id = d.tenant_id and w.id = d.webhook_id and d.state = 'waiting'
returning d.tenant_id, d.webhook_id, w.url, w.format, w.secret, d.event_at, d.event_id, d.attempts, d.event
"""
    ).bindparams(LIMIT),
    TargetRow,
)

END_DELIVERY: Final = statement(
    "end_delivery",
    "An event was delivered or given up, or is sent again later.",
    text(
        "update webhook_deliveries set state = :state, error = :error, next_at = :next_at, "
        "ended_at = case when :state = 'waiting' then null else clock_timestamp() end "
        "where tenant_id = :tenant_id and webhook_id = :webhook_id and event_at = :event_at and event_id = :event_id "
        "and attempts = :attempts and state = 'waiting'"
    ).bindparams(
        bindparam("state", type_=Text()),
        bindparam("error", type_=Text()),
        _instant("next_at"),
        TENANT_ID,
        _WEBHOOK_ID,
        _instant("event_at"),
        bindparam("event_id", type_=BigInteger()),
        bindparam("attempts", type_=BigInteger()),
    ),
    Nothing,
)

FORGET_DELIVERIES: Final = statement(
    "forget_deliveries",
    "What ended long ago is forgotten.",
    text(
        "delete from webhook_deliveries where ended_at < now() - interval '7 days' and state = 'delivered' "
        "or ended_at < now() - interval '30 days'"
    ),
    Nothing,
)


async def claim_deliveries(tx: Transaction, *, limit: int) -> list[TargetRow]:
    """What is to be sent now, by the caller and nobody else."""
    return await tx.all(CLAIM_DELIVERIES, limit=limit)


def end_delivery(tx: Transaction, target: TargetRow, *, state: str, error: str | None, next_at: datetime) -> None:
    """What became of it; unless it was sent again meanwhile."""
    tx.queue(
        END_DELIVERY,
        state=state,
        error=error,
        next_at=next_at,
        tenant_id=target.tenant_id,
        webhook_id=target.webhook_id,
        event_at=target.event_at,
        event_id=target.event_id,
        attempts=target.attempts,
    )


def forget_deliveries(tx: Transaction) -> None:
    """Takes out what was delivered a week ago, or given up a month ago."""
    tx.queue(FORGET_DELIVERIES)
