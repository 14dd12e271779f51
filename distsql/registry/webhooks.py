"""Webhooks: made by operators for tenants, told of events by any server, at least once, in order in each repository."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from distsql.errors import DistsqlError, SettingInvalidError, TenantUnknownError, WebhookUnknownError
from distsql.registry.administration import Administration
from distsql.registry.audit_seals import AuditSeals
from distsql.registry.webhook_messages import FORMATS, make_message, message_id, new_secret
from distsql.sql import audit, repositories, webhooks
from distsql.sql.database import Database, transactional
from distsql.sql.transactions import Transaction
from distsql.sql.webhooks import KINDS, DeadRow, TargetRow, WebhookRow

_log: Final = logging.getLogger("distsql")
AT_ONCE: Final = 50
_QUEUE_EVERY_S: Final = 1
_TOGETHER_S: Final = 0.005
_DEAD_SHOWN: Final = 1000
# As Standard Webhooks suggests; then it is given up.
DELAYS: Final = (5, 5 * 60, 30 * 60, *(hours * 60 * 60 for hours in (2, 5, 10, 14, 20, 24)))
_FORGET_EVERY: Final = timedelta(minutes=10)
_MOMENT: Final = timedelta(microseconds=1)
_OK: Final = range(200, 300)

Send = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]
"""Posts headers and a body to a URL, and gives the answer's status."""


class Webhooks(Administration):
    """For whoever runs the registry: a service of the owner's. All methods raise `TenantUnknownError`."""

    __slots__ = ()

    async def all(self, *, tenant: str = "") -> Sequence[WebhookRow]:
        """A tenant's, or everybody's."""
        return await self._database.read(webhooks.list_webhooks, tenant=tenant)

    async def dead(self, tenant: str) -> Sequence[DeadRow]:
        """What was given up, newest first."""
        tenant_id = await self._database.read(repositories.find_tenant, tenant)
        return await self._database.read(webhooks.list_dead_deliveries, _known(tenant, tenant_id), limit=_DEAD_SHOWN)

    @transactional
    async def add(
        self,
        tx: Transaction,
        tenant: str,
        url: str,
        *,
        format: str,  # noqa: A002  # as the option and the column are called
        events: Sequence[str],
    ) -> tuple[int, str]:
        """The webhook's number and its secret, which nobody is shown again. Raises `SettingInvalidError`."""
        unknown = sorted(set(events) - KINDS.keys())
        if unknown or not events:
            raise SettingInvalidError(f"Events are some of {', '.join(KINDS)}, not {', '.join(unknown) or 'none'}")
        if format not in FORMATS:
            raise SettingInvalidError(f"The format is one of {', '.join(FORMATS)}")
        secret = new_secret()
        number = await webhooks.insert_webhook(
            tx, tenant, url=url, format=format, events=sorted(set(events)), secret=secret, actor=self._caller.actor
        )
        tenant_id = _known(tenant, await repositories.find_tenant(tx, tenant) if number is not None else None)
        self._audit(tx, tenant_id, "webhook.add", f"{number}={url}")
        return number or 0, secret

    @transactional
    async def delete(self, tx: Transaction, tenant: str, number: int) -> None:
        """Nothing is sent there any more. Raises `WebhookUnknownError`."""
        tenant_id = _known(tenant, await repositories.find_tenant(tx, tenant))
        if not await webhooks.delete_webhook(tx, tenant_id, number):
            raise _unknown(tenant, number)
        self._audit(tx, tenant_id, "webhook.delete", str(number))

    async def replay(self, tenant: str, number: int, *, since: datetime, until: datetime) -> int:
        """Sends the interval's events again, those included that it has had. Raises `WebhookUnknownError`."""
        await self._check(tenant, number)
        return await self._replay(tenant, number, since, until)

    @transactional
    async def _replay(self, tx: Transaction, tenant: str, number: int, since: datetime, until: datetime) -> int:
        tenant_id = _known(tenant, await repositories.find_tenant(tx, tenant))
        self._audit(tx, tenant_id, "webhook.replay", f"{number}={since.isoformat()}/{until.isoformat()}")
        return await webhooks.replay_events(tx, tenant_id, number, since=since, until=until)

    async def test(self, tenant: str, number: int, send: Send) -> int:
        """Sends something that says that it is a test, now, and gives the answer's status."""
        await self._check(tenant, number)
        row = await self._database.read(webhooks.find_target, tenant=tenant, webhook_id=number)
        if row is None:
            raise _unknown(tenant, number)
        await self._tell_test(tenant, number)
        now = datetime.now(UTC)
        event = {
            "at": now.isoformat(),
            "actor": self._caller.actor,
            "action": "test",
            "repository": f"{tenant}/test",
            "tenant": tenant,
        }
        message = make_message(event, id=f"test-{now.timestamp():.6f}", format=row.format, secret=row.secret, now=now)
        return await send(row.url, message.headers, message.body)

    @transactional
    async def _tell_test(self, tx: Transaction, tenant: str, number: int) -> None:
        tenant_id = _known(tenant, await repositories.find_tenant(tx, tenant))
        self._audit(tx, tenant_id, "webhook.test", str(number))

    async def _check(self, tenant: str, number: int) -> None:
        if number not in {row.id for row in await self.all(tenant=tenant)}:
            raise _unknown(tenant, number)

    def _audit(self, tx: Transaction, tenant_id: int, action: str, reference: str) -> None:
        audit.insert_audit_events(tx, tenant_id, action, caller=self._caller, repository=None, references=[reference])


def _known(tenant: str, tenant_id: int | None) -> int:
    if tenant_id is None:
        raise TenantUnknownError(f"There is no tenant {tenant[:80]!r}: `distsql tenant create` makes it")
    return tenant_id


def _unknown(tenant: str, number: int) -> WebhookUnknownError:
    return WebhookUnknownError(f"{tenant} has no webhook {number}: `distsql webhook list {tenant}` shows them")


class Deliverer:
    """Of one server, beside those of all others: what one has taken, nobody else sends for a minute."""

    __slots__ = ("_database", "_forgot_at", "_seals", "_send")

    def __init__(self, database: Database, send: Send) -> None:
        self._database = database
        self._seals = AuditSeals(database)
        self._send = send
        self._forgot_at = datetime.min.replace(tzinfo=UTC)

    async def run(self) -> int:
        """Queues what has happened, and sends all that is due. How many were sent."""
        if not await self._database.read(webhooks.is_anybody_told):
            return 0
        sent = await self._send_all()
        await self._forget()
        return sent

    async def _queue(self) -> None:
        until = await self._seals.settled(margin=_MOMENT)
        if until is not None:
            await self._database.transact(partial(webhooks.queue_events, until=until))

    async def _send_all(self) -> int:
        """So many at once; whoever is slow to answer holds up what is for himself, and takes one place of them."""
        sent, queue_at = 0, 0.0
        sending = set[asyncio.Task[None]]()
        try:
            while True:
                if time.monotonic() >= queue_at:
                    await self._queue()
                    queue_at = time.monotonic() + _QUEUE_EVERY_S
                free = AT_ONCE - len(sending)
                targets = await self._database.transact(partial(webhooks.claim_deliveries, limit=free)) if free else ()
                sending |= {asyncio.create_task(self._deliver(target)) for target in targets}
                if not sending:
                    return sent
                done, sending = await asyncio.wait(sending, timeout=_QUEUE_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                if done and sending:  # those that are as quick are claimed anew together
                    more, sending = await asyncio.wait(sending, timeout=_TOGETHER_S)
                    done |= more
                sent += len(done)
                for each in done:
                    each.result()
        finally:
            for each in sending:
                each.cancel()
            await asyncio.gather(*sending, return_exceptions=True)

    async def _deliver(self, target: TargetRow) -> None:
        now = datetime.now(UTC)
        id_ = message_id(target.tenant_id, target.event_at, target.event_id)
        message = make_message(target.event, id=id_, format=target.format, secret=target.secret, now=now)
        try:
            status = await self._send(target.url, message.headers, message.body)
            error = None if status in _OK else f"It answered {status}"
        except DistsqlError as failure:
            error = failure.message
        await self._database.transact(partial(self._end, target=target, error=error, now=now))

    async def _end(self, tx: Transaction, *, target: TargetRow, error: str | None, now: datetime) -> None:
        if error is None:
            webhooks.end_delivery(tx, target, state="delivered", error=None, next_at=now)
        elif target.attempts > len(DELAYS):
            _log.warning("A webhook of tenant %d was given up: %s", target.tenant_id, error)
            webhooks.end_delivery(tx, target, state="dead", error=error, next_at=now)
        else:
            again = now + timedelta(seconds=DELAYS[target.attempts - 1])
            webhooks.end_delivery(tx, target, state="waiting", error=error, next_at=again)

    async def _forget(self) -> None:
        now = datetime.now(UTC)
        if now - self._forgot_at > _FORGET_EVERY:
            self._forgot_at = now

            async def forget(tx: Transaction) -> None:
                webhooks.forget_deliveries(tx)

            await self._database.transact(forget)
