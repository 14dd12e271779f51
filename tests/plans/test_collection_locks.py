"""No transaction of garbage collection or retention takes more than twenty locks, as it runs on large tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import NamedTuple

import pytest

from distsql.registry.context import Backend
from distsql.registry.garbage import GarbageCollector
from distsql.registry.retention import Retention
from distsql.registry.retention_rules import own_policy
from distsql.registry.reviews import Periods
from distsql.registry.tenants import Tenants
from distsql.sql.database import Database
from distsql.sql.transactions import Transaction
from distsql.values import Caller
from tests.plans.classes import COLD, COLLECTING, PURGE, SWEEP
from tests.plans.test_budgets import MOST_LOCKS
from tests.registry.pushing import push_blob, push_image
from tests.registry.soundness import namespace_of, opened
from tests.registry.test_garbage_interruptions import make_garbage
from tests.sql.rows import look

pytestmark = pytest.mark.usefixtures("fresh_connections")

NOW = timedelta(0)
# What doesn't run in transactions of a collection's: reads by themselves, and a server's attempt to begin.
ELSEWHERE = {"try_collecting"}
MOST_PLANNED = 23
GENERIC = "force_generic_plan"
CUSTOM = "force_custom_plan"


class Cost(NamedTuple):
    """Statements of a transaction, and its locks (relation or kind, and mode) before it commits."""

    statements: list[str]
    locks: list[tuple[str, str]]


class Costs:
    """Of every transaction that commits."""

    def __init__(self) -> None:
        self.plans = GENERIC
        self.statements: list[str] = []
        self.all: list[Cost] = []

    def __call__(self, name: str, *, seconds: float, round_trips: int) -> None:
        self.statements.append(name)


@pytest.fixture
async def backend(database_url: str) -> AsyncIterator[Backend]:
    async with opened(database_url, pool_size=2) as machinery:
        yield machinery


@pytest.fixture
def costs(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Costs:
    """Tables that are too small for their indexes are read by them all the same."""
    found = Costs()
    backend.everything.observe = found
    commit, transact = Transaction.commit, Database.transact

    async def counted(tx: Transaction) -> None:
        rows = await look(
            tx,
            "select coalesce(relation::regclass::text, locktype), mode from pg_locks "
            "where pid = pg_backend_pid() and relation is distinct from 'pg_locks'::regclass order by 1, 2",
        )
        found.all.append(Cost(found.statements.copy(), [(str(name), str(mode)) for name, mode in rows]))
        found.statements.clear()
        await commit(tx)

    async def by_indexes(
        self: Database,
        work: Callable[[Transaction], Awaitable[object]],
        *,
        tenant: str | None = None,
        slot: int | None = None,
    ) -> object:
        async def planned(tx: Transaction) -> object:
            settings = {"enable_seqscan": "off", "plan_cache_mode": found.plans}
            await look(
                tx, "select " + ", ".join(f"set_config('{key}', '{value}', true)" for key, value in settings.items())
            )
            return await work(tx)

        return await transact(self, planned, tenant=tenant, slot=slot)

    monkeypatch.setattr(Transaction, "commit", counted)
    monkeypatch.setattr(Database, "transact", by_indexes)
    return found


async def make_all_kinds(backend: Backend, number: int) -> None:
    """Something for every statement of a collection."""
    namespace = namespace_of(backend)
    await make_garbage(backend, number)
    signed = await push_image(namespace.repository("acme/web"), b"signed%d" % number, n=str(number))
    await namespace.repository("acme/web").signatures.put(signed.digest, b"signature")
    gone = namespace.repository(f"gone{number}/web")
    await push_image(gone, b"layer", tags=["v1"])
    await push_blob(gone, b"nothing")
    await Tenants(backend.everything, Caller()).delete(f"gone{number}")


async def collect(backend: Backend, costs: Costs) -> list[Cost]:
    """What the transactions of two runs cost: a tenant goes in the second."""
    costs.statements.clear()
    costs.all.clear()
    for _ in range(2):
        await GarbageCollector(backend, Caller("gc"), periods=Periods(NOW, NOW), notify=lambda what, count: None).run(
            full=True
        )
    return costs.all.copy()


async def test_every_transaction_of_a_collection(backend: Backend, costs: Costs) -> None:
    for number in range(2):  # the second finds everything prepared and planned
        await make_all_kinds(backend, number)
        found = await collect(backend, costs)
    assert [cost for cost in found if len(cost.locks) > MOST_LOCKS] == []
    seen = {name for cost in found for name in cost.statements}
    collecting = COLLECTING.keys() | {name for name, reason in COLD.items() if reason in {PURGE, SWEEP}}
    assert collecting - seen == ELSEWHERE
    assert max(len(cost.locks) for cost in found) > MOST_LOCKS / 2, "nothing was counted"


async def test_planning_looks_at_no_more_tables_and_indexes(backend: Backend, costs: Costs) -> None:
    """A statement's first runs on a connection, for which all indexes of its tables are opened."""
    costs.plans = CUSTOM
    await make_all_kinds(backend, 0)
    found = await collect(backend, costs)
    relations = [{name for name, _ in cost.locks} - {"advisory", "transactionid", "virtualxid"} for cost in found]
    over = [cost.statements for cost, each in zip(found, relations, strict=True) if len(each) > MOST_LOCKS]
    # Six foreign keys lead to a repository: deleting the first one of a connection looks at all indexes of six tables.
    assert all("purge_repository" in statements for statements in over), over
    assert max(map(len, relations)) <= MOST_PLANNED


async def read_in_a_transaction(
    self: Database, query: Callable[..., Awaitable[object]], /, *args: object, **kwargs: object
) -> object:
    return await self.transact(lambda tx: query(tx, *args, **kwargs))


async def test_every_transaction_of_a_retention_run(
    backend: Backend, costs: Costs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of what it reads beside them, as if that were transactions."""
    web, retention = namespace_of(backend).repository("acme/web"), Retention(backend, Caller())
    monkeypatch.setattr(Database, "read", read_in_a_transaction)
    for number in range(2):
        tag = f"sha256-{(await push_image(web, b'signed', n=str(number))).digest.encoded}.sig"
        await push_image(web, b"tagged", tags=[f"v{number}", f"w{number}", tag], number=str(number))
        signed = await push_image(web, b"untagged", mark=str(number))
        await web.signatures.put(signed.digest, b"signature")
        await retention.set("acme", own_policy(["latest 1"], ["all", "untagged: all"]))
        costs.all.clear()
        assert sum([len(each.deleted) async for each in retention.run("acme/web")]) > 1
        await retention.set("acme", None)
        deleting = [cost for cost in costs.all if "mark_manifests_deleted" in cost.statements]
    assert deleting
    seen = {name for cost in costs.all for name in cost.statements}
    assert seen >= {"find_retention_terms", "list_retention_decisions", "list_deletion_effects", "list_retention_rules"}
    assert [cost for cost in costs.all if len(cost.locks) > MOST_LOCKS] == []
    assert await web.signatures.get(signed.digest) == []
    await web.restorations.restore_manifest(signed.digest)
    assert await web.signatures.get(signed.digest) == [b"signature"]
