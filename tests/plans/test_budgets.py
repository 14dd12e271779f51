"""What each operation costs in PostgreSQL: statements, round trips and locks. More is a decision, made here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import pytest

from distsql.app import Registry
from distsql.registry.image_labels import ImageLabels
from distsql.registry.tenants import Tenants
from distsql.settings import Settings
from distsql.sql import health, tenant_setting
from distsql.sql.database import Database
from distsql.sql.tenant_setting import Who
from distsql.sql.transactions import Transaction
from distsql.values import Caller
from tests.plans import operations
from tests.plans.operations import Call, World
from tests.sql.rows import look

pytestmark = pytest.mark.usefixtures("fresh_connections")

MOST_LOCKS = 20
"""GitLab's registry takes 1,308 to delete one blob."""
OWN_LOCKS = {"transactionid", "virtualxid"}
MOST_ROUND_TRIPS = 5
# Undo, of several transactions: all in one would take more locks.
IN_SEVERAL_STEPS = {"restore manifest", "roll back"}


class Budget(NamedTuple):
    """At most so many, ``begin``, ``set_tenant`` and ``commit`` counted.

    ``locks`` are rows of pg_locks at the commit (one for each relation and mode, and the transaction's own two) when
    the tenant's id is known and all statements are prepared and planned; ``cold_tables`` counts the tables and indexes
    that are locked in a connection's first run, whose planning locks every index of every table.
    """

    prepare: Callable[[World], Awaitable[Call]]
    statements: int
    round_trips: int
    locks: int
    cold_tables: int


BUDGETS = {
    "get manifest by tag": Budget(operations.get_manifest_by_tag, 1, 1, 9, 13),
    "get manifest by digest": Budget(operations.get_manifest_by_digest, 1, 1, 7, 9),
    "get tag": Budget(operations.get_tag, 2, 2, 5, 7),
    "get blob": Budget(operations.get_blob, 1, 1, 9, 14),
    "head blob": Budget(operations.head_blob, 1, 1, 11, 17),
    "head blob, not there": Budget(operations.head_blob_that_is_not_there, 1, 1, 11, 17),
    "list tags": Budget(operations.list_tags, 1, 1, 7, 11),
    "list repositories": Budget(operations.list_repositories, 1, 1, 5, 7),
    "list referrers": Budget(operations.list_referrers, 1, 1, 14, 18),
    "get signatures": Budget(operations.get_signatures, 2, 2, 7, 9),
    "put manifest": Budget(partial(operations.put_manifest, layers=3), 9, 3, 20, 20),
    "put manifest, 300 layers": Budget(partial(operations.put_manifest, layers=300), 9, 3, 20, 20),
    "put 16 manifests together": Budget(operations.put_manifests_together, 9, 3, 20, 20),
    "put index": Budget(operations.put_index, 8, 3, 18, 17),
    "put manifest again": Budget(operations.put_manifest_again, 7, 3, 13, 13),
    "put signature by tag": Budget(operations.put_signature_by_tag, 9, 4, 18, 20),
    "put signature by ten tags": Budget(partial(operations.put_signature_by_tag, tags=10), 9, 4, 18, 20),
    "put first signature by tag, collecting": Budget(operations.put_first_signature_by_tag, 9, 4, 18, 20),
    "put signature by referrer": Budget(operations.put_signature_by_referrer, 10, 3, 16, 15),
    "put schema 1": Budget(operations.put_schema1, 9, 3, 18, 19),
    "put schema 1 by another signer": Budget(operations.put_schema1_by_another_signer, 9, 3, 16, 15),
    "delete manifest": Budget(operations.delete_manifest, 10, 5, 20, 20),
    "tag": Budget(operations.tag, 7, 3, 14, 16),
    "swap tag": Budget(operations.swap_tag, 8, 4, 16, 16),
    "untag": Budget(operations.untag, 7, 3, 8, 9),
    "begin upload": Budget(operations.begin_upload, 4, 2, 8, 9),
    "begin upload, new repository": Budget(operations.begin_upload_in_a_new_repository, 10, 4, 16, 14),
    "write chunk": Budget(operations.write_chunk, 3, 2, 9, 14),
    "finish upload": Budget(operations.finish_upload, 8, 2, 14, 19),
    "cancel upload": Budget(operations.cancel_upload, 5, 2, 6, 6),
    "mount": Budget(operations.mount, 7, 3, 13, 14),
    "mount, from any": Budget(operations.mount_from_any, 7, 3, 13, 14),
    "mount, new repository": Budget(operations.mount_into_a_new_repository, 10, 4, 19, 20),
    "mount, not there": Budget(operations.mount_what_is_not_there, 4, 2, 8, 10),
    "delete blob": Budget(operations.delete_blob, 8, 4, 11, 9),
    "put signature": Budget(operations.put_signature, 7, 3, 11, 9),
    "set public": Budget(operations.set_public, 6, 2, 6, 7),
    "restore manifest": Budget(operations.restore_manifest, 22, 11, 20, 20),
    "restore repository": Budget(operations.restore_repository, 9, 4, 14, 12),
    "roll back": Budget(operations.roll_back, 13, 9, 17, 16),
    "renew blob": Budget(operations.renew_blob, 4, 3, 14, 17),
    "promise manifest": Budget(operations.promise_manifest, 5, 4, 16, 16),
    "remove repository": Budget(operations.remove_repository, 8, 3, 13, 14),
}


class Watch:
    """Counts what the operation that runs now costs."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.round_trips = 0
        self.locks: list[list[str]] = []

    def __call__(self, name: str, *, seconds: float, round_trips: int) -> None:
        self.statements.append(name)
        self.round_trips += round_trips

    @property
    def most_locks(self) -> list[str]:
        """Of the operation's transactions, those of the one that took the most."""
        return max(self.locks, key=len, default=[])

    def begin(self) -> None:
        self.statements.clear()
        self.locks.clear()
        self.round_trips = 0


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def world(settings: Settings, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    # Else an operation that begins a second after the one before would look up its tenant's id.
    monkeypatch.setattr(tenant_setting, "FRESH_S", 3600)
    async with Registry(settings) as registry:
        backend = registry.backend
        backend.database.observe = backend.everything.observe = watch
        # Nothing that was put off is done in the middle of an operation, however slow the machine is.
        monkeypatch.setattr(ImageLabels, "add", lambda *_: None)
        caller = Caller(actor="tester")
        yield World(registry.namespace.acting_as(caller), backend.database, Tenants(backend.everything, caller))


@pytest.fixture
def count_locks(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the transaction's locks just before each commit. Reads become transactions, so that they have one."""
    commit, read_over_pipeline = Transaction.commit, Database.read_as

    async def counted(tx: Transaction) -> None:
        rows = await look(
            tx,
            "select coalesce(relation::regclass::text, locktype), mode from pg_locks "
            "where pid = pg_backend_pid() and relation is distinct from 'pg_locks'::regclass order by 1, 2",
        )
        watch.locks.append([f"{name} {mode}" for name, mode in rows])
        await commit(tx)

    async def read_as(
        self: Database, who: Who, query: Callable[..., Awaitable[object]], /, *args: Any, **kwargs: Any
    ) -> object:
        tenant_id = who
        if isinstance(who, str):
            await read_over_pipeline(self, who, health.ping)  # learns the id
            known = self._known.best(who)
            tenant_id = known if isinstance(known, int) else None

        async def work(tx: Transaction) -> object:
            await look(tx, f"select set_config('app.tenant_id', '{'' if tenant_id is None else tenant_id}', true)")
            return await query(tx, *args, **kwargs)

        return await self.transact(work)

    monkeypatch.setattr(Transaction, "commit", counted)
    monkeypatch.setattr(Transaction, "last", Transaction.one)  # so that it has a commit by itself
    monkeypatch.setattr(Database, "read_as", read_as)


async def test_statements_and_round_trips(world: World, watch: Watch) -> None:
    over = {}
    for name, budget in BUDGETS.items():
        call = await budget.prepare(world)
        watch.begin()
        await call()
        cost = (len(watch.statements), watch.round_trips)
        if cost != (budget.statements, budget.round_trips):
            over[name] = (cost, watch.statements.copy())
    assert over == {}, "the table is exact: make it tell the new cost, if that is what it should be"


def test_no_operation_takes_more_than_five_round_trips() -> None:
    assert [
        name
        for name, budget in BUDGETS.items()
        if budget.round_trips > MOST_ROUND_TRIPS and name not in IN_SEVERAL_STEPS
    ] == []


def test_three_layers_cost_what_three_hundred_do() -> None:
    small, large = BUDGETS["put manifest"], BUDGETS["put manifest, 300 layers"]
    assert small[1:] == large[1:]


async def fewest_locks(world: World, watch: Watch, budget: Budget) -> list[str]:
    """Of a few runs, if need be: when a table's statistics change, PostgreSQL plans anew, and locks more for once."""
    found: list[list[str]] = []
    while len(found) < 3 and (not found or len(found[-1]) > budget.locks):
        call = await budget.prepare(world)
        watch.begin()
        await call()
        found.append(watch.most_locks)
    return min(found, key=len)


@pytest.mark.slow
@pytest.mark.usefixtures("count_locks")
async def test_locks(world: World, watch: Watch) -> None:
    over = {}
    for name, budget in BUDGETS.items():
        call = await budget.prepare(world)
        await world.database.forget_idle()  # the next connection has nothing prepared
        watch.begin()
        await call()
        cold = {lock.partition(" ")[0] for lock in watch.most_locks} - OWN_LOCKS
        warm = await fewest_locks(world, watch, budget)
        if len(warm) > budget.locks or len(cold) > budget.cold_tables:
            over[name] = (warm, sorted(cold))
    assert over == {}


def test_no_operation_takes_more_than_twenty_locks() -> None:
    assert [name for name, budget in BUDGETS.items() if budget.locks > MOST_LOCKS] == []
    assert [name for name, budget in BUDGETS.items() if budget.cold_tables > MOST_LOCKS] == []
