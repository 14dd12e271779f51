"""A registry with two tenants, as often as a test wants it: each time the very same rows and bytes."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from psycopg.conninfo import conninfo_to_dict

from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.app import Registry
from distsql.registry.accounts import Accounts
from distsql.registry.grants import Grant
from distsql.registry.namespace import StoredNamespace
from distsql.registry.repositories import StoredRepository
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.settings import Settings
from distsql.values import Caller, TenantScope
from tests import postgres
from tests.isolation.things import ENDED, Stock
from tests.migrations import snapshots
from tests.registry.pushing import push_blob

ACME: Final = "acme"
RIVAL: Final = "rival"
ACCOUNT: Final = f"{RIVAL}/ci"
# New with each run, whoever it was that asked.
_NEW_EACH_TIME: Final = {"at", "uuid", "store_key", "store_state", "valid_from", "version", "token_id"}

_SLOT: Final = {"tenant_id", "slot"}


@dataclass(frozen=True)
class Origin:
    """Where the world is kept: a database and a folder to copy, and what was random when it was made."""

    server: str
    url: str
    folder: Path
    uploads: dict[str, UUID]
    secret: str
    """Of `ACCOUNT`."""

    def stock(self, tenant: str, word: str) -> Stock:
        return Stock(tenant, word, self.uploads.get(tenant, UUID(int=uuid4().int)))


@dataclass
class World:
    """One copy. ``rival`` is all that tenant B has of the registry; ``past_policies`` is what ran as the owner."""

    url: str
    registry: Registry
    rival: StoredNamespace
    statements: list[tuple[str, int]] = field(default_factory=list)
    past_policies: list[str] = field(default_factory=list)

    @property
    def namespace(self) -> StoredNamespace:
        """For the application: whoever calls it is tenant B."""
        return self.rival

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def check(self) -> None: ...

    @property
    def application(self) -> Application:
        return Application(self, limits=Limits(), access_log=None)

    def observe(self, name: str, *, seconds: float, round_trips: int) -> None:
        del seconds
        self.statements.append((name, round_trips))

    def observe_owner(self, name: str, *, seconds: float, round_trips: int) -> None:
        self.observe(name, seconds=seconds, round_trips=round_trips)
        self.past_policies.append(name)

    async def objects(self) -> list[tuple[int, bool]]:
        """What the byte store holds, by length."""
        return sorted([(each.length, each.complete) async for each in self.registry.backend.store.walk()])

    def rows(self, stock: Stock) -> tuple[list[str], list[str]]:
        """Those of tenant A as they are, and those of everybody else without what was asked for."""
        acme, others, usage = [], [], Counter[str]()
        tables = snapshots.rows(self.url)
        tenant_id = next(json.loads(row)["id"] for (row,) in tables["tenants"] if f'"{ACME}"' in row)
        for table, found in tables.items():
            if table == "signing_keys":  # each registry's own, and random
                continue
            for (text,) in found:
                row = json.loads(text) if table != "alembic_version" else {}
                if row.get("id" if table == "tenants" else "tenant_id") == tenant_id:
                    acme.append(f"{table} {text}")
                elif table == "tenant_usage":  # in slots that are picked at random: what counts is the sum
                    usage.update({f"{row['tenant_id']} {key}": row[key] or 0 for key in row.keys() - _SLOT})
                else:
                    others.append(f"{table} {stock.hide(json.dumps(_lasting(table, row)))}")
        return sorted(acme), sorted([*others, *map(str, usage.items())])


_RANDOM_IDS: Final = {"audit_events", "garbage_queue"}


def _lasting(table: str, row: dict[str, Any]) -> dict[str, Any]:
    dropped = _NEW_EACH_TIME | ({"id"} if table in _RANDOM_IDS else set())
    return {key: value for key, value in row.items() if key not in dropped and not key.endswith("_at")}


def settings_of(url: str, folder: Path) -> Settings:
    return Settings(database_url=url, storage=folder.as_uri(), access_log=False)


@asynccontextmanager
async def copied(origin: Origin, folder: Path) -> AsyncIterator[World]:
    """A copy of the world, which is gone afterwards."""
    shutil.copytree(origin.folder, folder)
    name = str(conninfo_to_dict(origin.url)["dbname"])
    async with AsyncExitStack() as stack:
        url = stack.enter_context(postgres.new_database(origin.server, template=name))
        registry = await stack.enter_async_context(Registry(settings_of(url, folder), check_schema=False))
        world = World(url, registry, StoredNamespace(registry.backend, Caller(actor="bob"), TenantScope(RIVAL)))
        await world.rival.repository(f"{RIVAL}/web").exists()  # so that the tenant's id is known in both
        registry.backend.database.observe = world.observe
        registry.backend.everything.observe = world.observe_owner
        yield world


async def fill(settings: Settings) -> tuple[dict[str, UUID], str]:
    """Gives A one of everything, and B a little; the sessions that stay open, and the secret of B's account."""
    async with Registry(settings) as registry:
        namespace = registry.namespace.acting_as(Caller(actor="ann"))
        acme, rival = Stock(ACME, "hidden", UUID(int=0)), Stock(RIVAL, "web", UUID(int=0))
        for stock in (acme, rival):
            await _push(namespace.repository(stock.name), stock)
        await _live(namespace, acme, RepositoryAdministration(registry.backend.everything, Caller(actor="ann")))
        uploads = {stock.tenant: await _begin(namespace.repository(stock.name)) for stock in (acme, rival)}
        return uploads, await _let_in(registry)


async def _let_in(registry: Registry) -> str:
    """An account of each tenant, which may do everything there."""
    accounts = Accounts(registry.backend.everything, Caller(actor="ann"))
    secrets = {}
    for tenant in (ACME, RIVAL):
        grant = Grant.parse(f"{tenant}/**:pull,push,delete,admin")
        secrets[tenant] = await accounts.create(f"{tenant}/ci", kind="robot", granted=[grant])
    return secrets[RIVAL]


async def _push(repository: StoredRepository, stock: Stock) -> None:
    for content in stock.blobs.values():
        await push_blob(repository, content)
    for kind in stock.manifests:
        await repository.manifests.put(stock.parsed(kind), [stock.tag] if kind in {"image", "index"} else [])
    await repository.signatures.put(stock.digest("image"), b"a signature of " + stock.word.encode())
    cosign = f"sha256-{stock.digest('image').encoded}.sig"
    await repository.tags.tag(cosign, stock.digest("cosign signature"))


async def _live(namespace: StoredNamespace, stock: Stock, administration: RepositoryAdministration) -> None:
    """What happens to a repository in the course of time."""
    repository = namespace.repository(stock.name)
    await repository.tags.tag(ENDED, stock.digest("image"))
    await repository.tags.untag(ENDED)
    await repository.manifests.delete(stock.digest("gone image"))
    await repository.layers.delete(stock.digest("gone layer"))
    for name in ("sparse", "removed"):
        other = namespace.repository(f"{stock.tenant}/{name}")
        await other.layers.mount(stock.digest("layer"), stock.name)
        await administration.set(other.name, {"sparse": True})
        await other.manifests.put(stock.parsed("index"), [stock.tag])
    await namespace.repository(stock.removed).remove()


async def _begin(repository: StoredRepository) -> UUID:
    async with await repository.layers.upload() as upload:
        await upload.write(b"a beginning")
        return upload.uuid
