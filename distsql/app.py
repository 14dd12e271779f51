"""The composition root: settings -> database -> byte store -> registry -> ASGI application."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from distsql import cores
from distsql.api.application import Application
from distsql.api.authorization import Authorizer, service_name
from distsql.api.blobs import serve_layer
from distsql.api.logs import AccessLog
from distsql.api.metrics import Metrics
from distsql.api.outgoing import Sender
from distsql.api.requests import Limits
from distsql.api.scrapes import Scrapes
from distsql.api.traces import Traces
from distsql.bytestore.placement import PlacedStores
from distsql.bytestore.urls import open_store
from distsql.contract import Namespace
from distsql.registry.audit_seals import AuditSeals
from distsql.registry.authentication import Authenticator
from distsql.registry.authorities import Authorities
from distsql.registry.batches import BatchMemory
from distsql.registry.collecting import Collecting
from distsql.registry.context import Backend
from distsql.registry.image_labels import LATE, ImageLabels
from distsql.registry.incidents import Incidents
from distsql.registry.namespace import StoredNamespace
from distsql.registry.pulls import Pulls, add_up_in_turn, forget_ended_tags
from distsql.registry.repeating import Repeated
from distsql.registry.retention import Retention
from distsql.registry.reviews import Periods
from distsql.registry.sql_access import end_long_sessions
from distsql.registry.turns import Turns, every
from distsql.registry.webhooks import Deliverer
from distsql.settings import Settings
from distsql.sql import gauges, health, revisions, stores
from distsql.sql.access_changes import delete_access_changes
from distsql.sql.database import SERVE_ROLE, Database
from distsql.sql.days import roll_up_days
from distsql.sql.transactions import Observer, ignore
from distsql.values import ASGIApplication, Caller

_FORGET_S: Final = 60 * 60
_ACCESS_CHANGES_AGE: Final = timedelta(days=1)
_ENDED_TAGS: Final = timedelta(days=1)
_ENDED_TAGS_AGE: Final = timedelta(days=30)  # at least; longer where they can be restored for longer
_UNREAD_LABELS: Final = timedelta(hours=6)
_LATE_LABELS: Final = timedelta(minutes=2)
_LONG_SESSIONS: Final = timedelta(seconds=10)
_ASKED_S: Final = 10 * 60  # at least so often, whose turn it is
_FIRST_UNREAD_LABELS_S: Final = 60
_ROLL_UP: Final = timedelta(minutes=10)
_FIRST_ROLL_UP_S: Final = 10  # while a server starts it has better things to do


class Registry:
    """A registry in this process: opened, used through its namespace, closed."""

    def __init__(
        self, settings: Settings, *, check_schema: bool = True, observe: Observer = ignore, serving: bool = False
    ) -> None:
        self._check_schema = check_schema
        self._serving = serving  # and so does by itself what a server does
        open_as = functools.partial(
            Database,
            settings.database_url,
            pool_size=settings.pool_size,
            statement_timeout_s=settings.statement_timeout.total_seconds(),
            lock_timeout_s=settings.lock_timeout.total_seconds(),
            observe=observe,
            pooler=settings.pooler,
        )
        self._database, self._everything = open_as(role=SERVE_ROLE, replica_urls=settings.replica_url), open_as()
        self._store = PlacedStores(
            open_store(settings.storage_url), find_urls=self._find_store_urls, open_store=open_store
        )
        self.image_labels = ImageLabels(self._everything, self._store)
        self.backend = Backend(
            self._database,
            self._everything,
            self._store,
            serve_layer,
            settings.upload_expiry,
            read_only=settings.read_only,
            redirect=settings.redirect,
            makes_tenants=settings.auth == "none",
            grace=settings.gc_grace,
            restore_period=settings.restore_period,
            image_labels=self.image_labels,
            recovery_window=settings.recovery_window,
            batches=BatchMemory(processes=settings.workers or 1),
        )
        self._namespace = StoredNamespace(self.backend, Caller())
        self._repeated = self._list_repeated(settings)
        self.incidents = Incidents(self._everything)
        self.pulls = Pulls(self._everything, interval_s=settings.pull_flush_interval.total_seconds())

    def _list_repeated(self, settings: Settings) -> list[Repeated]:
        """What a server does by itself."""
        seals, interval = AuditSeals(self._everything), settings.audit_seal_interval
        repeated = [
            Repeated(
                "sealing the audit",
                # All servers take turns: whoever is first.
                lambda: seals.seal(unless_since=interval * 0.9),
                seconds=interval.total_seconds(),
            ),
            Repeated(
                "rolling up days",
                # As above: one of all servers and their workers.
                lambda: self._everything.transact(functools.partial(roll_up_days, unless_since=_ROLL_UP * 0.9)),
                seconds=_ROLL_UP.total_seconds(),
                first=_FIRST_ROLL_UP_S,
            ),
            self._adding_up(settings),
            Repeated(
                "forgetting changes of access",
                lambda: self._everything.transact(functools.partial(delete_access_changes, age=_ACCESS_CHANGES_AGE)),
                seconds=_FORGET_S,
            ),
            self._by_turns(
                "forgetting pulls of ended tags",
                functools.partial(
                    forget_ended_tags, self._everything, age=max(_ENDED_TAGS_AGE, settings.restore_period)
                ),
                interval=_ENDED_TAGS,
                first=_FORGET_S,
            ),
            self._by_turns(
                "ending long sessions of tenants' own roles",
                functools.partial(end_long_sessions, self._everything),
                interval=_LONG_SESSIONS,
            ),
            self._by_turns(
                "reading labels", self.image_labels.read_rest, interval=_UNREAD_LABELS, first=_FIRST_UNREAD_LABELS_S
            ),
            self._by_turns(LATE, self.image_labels.read_late, interval=_LATE_LABELS),
            Repeated(
                "delivering events",
                Deliverer(self._everything, Sender(allowed=settings.private_hosts).post).run,
                seconds=settings.webhook_interval.total_seconds(),
            ),
            *self._collections(settings),
        ]
        if settings.retention:
            retention, every = Retention(self.backend, Caller(actor="retention")), settings.retention_interval
            repeated.append(
                # Asked more often: whoever stopped may have had the last turn.
                Repeated(
                    "retention",
                    lambda: retention.run_in_turn(interval=every),
                    seconds=min(60, every.total_seconds()),
                )
            )
        return repeated

    def _adding_up(self, settings: Settings) -> Repeated:
        add_up = functools.partial(add_up_in_turn, self._everything)
        return Repeated("adding up pulls", add_up, seconds=settings.pull_flush_interval.total_seconds())

    def _by_turns(
        self, name: str, work: Callable[[], Awaitable[object]], *, interval: timedelta, first: float | None = None
    ) -> Repeated:
        """One of all servers and their workers does it. All ask more often: whoever stopped may have had the turn."""
        take = functools.partial(Turns(self._everything, name).take, work, rest=every(interval))
        return Repeated(name, take, seconds=min(_ASKED_S, interval.total_seconds()), first=first)

    def _collections(self, settings: Settings) -> list[Repeated]:
        if not settings.gc or settings.read_only:
            return []
        collecting = Collecting(self.backend, periods_of(settings))
        return [Repeated("collecting garbage", collecting.run, seconds=settings.gc_interval.total_seconds())]

    @property
    def namespace(self) -> StoredNamespace:
        """Every repository there is, on behalf of nobody in particular."""
        return self._namespace

    async def open(self) -> None:
        """Checks the schema and makes the store ready."""
        if self._check_schema:
            await asyncio.to_thread(revisions.check_revision, self._database.url)
        if self._serving:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(initializer=cores.leave))
        await self._store.open()
        for repeated in self._repeated if self._serving else ():
            repeated.begin()

    async def close(self) -> None:
        """Writes down what was put off, and lets go of connections and of the store."""
        for repeated in self._repeated:
            await repeated.close()
        await self.backend.pushes.close()
        await self.pulls.close()
        await self.image_labels.close()
        await self.incidents.close()
        await self._database.close()
        await self._everything.close()
        await self._store.close()

    async def __aenter__(self) -> Self:
        """Opens it."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        await self.close()

    async def gauges(self) -> Mapping[str, float | None]:
        """What the catalogue says of itself, for metrics."""
        found = await self._everything.read(gauges.find_gauges)
        return found._asdict()

    async def _find_store_urls(self) -> dict[str, str]:
        return {row.name: row.url for row in await self._everything.read(stores.list_stores)}

    async def check(self) -> None:
        """Raises unless the database answers."""
        await self._database.read(health.ping)


def periods_of(settings: Settings) -> Periods:
    """How long things stay that garbage collection takes."""
    return Periods(settings.gc_grace, settings.restore_period, settings.recovery_window)


def create_application(
    settings: Settings, *, check_schema: bool = True, metrics_folder: Path | None = None
) -> ASGIApplication:
    """The ASGI application: for `distsql serve`, or mounted in another one.

    ``metrics_folder`` is where several processes that are asked as one tell each other their metrics.
    """
    metrics, traces = Metrics(), Traces() if settings.traces else None
    observe = metrics.add_statement if traces is None else _both(metrics.add_statement, traces.add_statement)
    registry = Registry(settings, check_schema=check_schema, observe=observe, serving=True)
    application = Application(
        registry,
        limits=Limits(manifest_bytes=settings.manifest_limit, body_timeout_s=settings.body_timeout.total_seconds()),
        access_log=AccessLog() if settings.access_log else None,
        authorizer=create_authorizer(registry.backend, settings) if settings.auth == "token" else None,
        pulls=registry.pulls,
        incidents=registry.incidents,
        scrapes=create_scrapes(registry, settings, metrics, folder=metrics_folder),
        tenant_domain=settings.tenant_domain,
    )
    return application if traces is None else traces.wrap(application)


def create_scrapes(registry: Registry, settings: Settings, metrics: Metrics, *, folder: Path | None) -> Scrapes:
    """What `/metrics` answers, and to whom: to everybody only where everybody may do everything."""
    return Scrapes(
        metrics,
        folder=folder,
        token=settings.metrics_token,
        is_open=settings.auth == "none",
        gauges=registry.gauges,
        connections=lambda: registry.backend.database.connections,
    )


def _both(one: Observer, other: Observer) -> Observer:
    def observe(name: str, *, seconds: float, round_trips: int) -> None:
        one(name, seconds=seconds, round_trips=round_trips)
        other(name, seconds=seconds, round_trips=round_trips)

    return observe


def create_authorizer(backend: Backend, settings: Settings) -> Authorizer:
    """Who asks, and what they may do, for `--auth token`."""
    service = service_name(settings.public_url)
    return Authorizer(
        Authenticator(backend.database, backend.everything, service=service),
        Authorities(backend.database),
        public_url=settings.public_url,
    )


@asynccontextmanager
async def connect(database_url: str, storage_url: str, *, actor: str = "library") -> AsyncIterator[Namespace]:
    """The registry as a library, without any server; ``actor`` is what audit and tag history remember.

    The database must have been migrated (``distsql migrate --database-url URL``): `SchemaError` otherwise.
    """
    async with Registry(Settings(database_url=database_url, storage=storage_url)) as registry:
        yield registry.namespace.acting_as(Caller(actor=actor))
