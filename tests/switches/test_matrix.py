"""Every way to write x every switch: what a switch forbids is refused, changes nothing, and everything else goes on."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import pytest

from distsql.errors import (
    DeletionRefusedError,
    QuotaExceededError,
    ReadOnlyError,
    RefusedError,
    TagImmutableError,
    TenantSuspendedError,
)
from distsql.registry.context import Backend
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.registry.tenants import Tenants
from distsql.values import Caller
from tests.contract.test_completeness import interfaces
from tests.migrations import snapshots
from tests.registry.recounts import use_of
from tests.registry.soundness import namespace_of
from tests.switches.writes import READS, WRITES, Write, make_world

ADMINISTRATOR: Final = Caller(actor="administrator")


Owner = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def owner(worker_database: str) -> Iterator[Owner]:
    """One connection that sees all rows, for all of these tests."""
    with psycopg.connect(worker_database, autocommit=True) as connection:
        yield connection


Turn = Callable[[Backend], Awaitable[None]]


@dataclass(frozen=True)
class Switch:
    turn: Turn
    refusal: type[RefusedError]
    forbids: Callable[[Write], bool]


async def _registry_read_only(backend: Backend) -> None:
    object.__setattr__(backend, "read_only", True)  # as if the process had been started so


def _tenant(**changes: Any) -> Turn:
    async def turn(backend: Backend) -> None:
        await Tenants(backend.everything, ADMINISTRATOR).set("acme", changes)

    return turn


def _repository(**changes: Any) -> Turn:
    async def turn(backend: Backend) -> None:
        await RepositoryAdministration(backend.everything, ADMINISTRATOR).set("acme/web", changes)

    return turn


async def _suspend(backend: Backend) -> None:
    await Tenants(backend.everything, ADMINISTRATOR).suspend("acme")


async def _fill_quotas(backend: Backend) -> None:
    use = await use_of(backend, "acme")
    quotas = ("quota_bytes", "quota_repositories", "quota_manifests", "quota_tags")
    await _tenant(**dict(zip(quotas, use, strict=True)))(backend)


def _everything(write: Write) -> bool:
    del write
    return True


def _in_web(write: Write) -> bool:
    """New repositories have no switches of their own yet."""
    return write.member != "LayerService.mount" and not write.prepare.__name__.endswith("elsewhere")


SWITCHES: Final[dict[str, Switch]] = {
    "registry read-only": Switch(_registry_read_only, ReadOnlyError, _everything),
    "tenant read-only": Switch(_tenant(read_only=True), ReadOnlyError, _everything),
    "repository read-only": Switch(_repository(read_only=True), ReadOnlyError, _in_web),
    "tenant suspended": Switch(_suspend, TenantSuspendedError, _everything),
    "tenant without deletions": Switch(_tenant(deletable=False), DeletionRefusedError, lambda write: write.deletes),
    "repository without deletions": Switch(
        _repository(deletable=False), DeletionRefusedError, lambda write: write.deletes
    ),
    "tenant's immutable tags": Switch(_tenant(immutable_tags=["v*"]), TagImmutableError, lambda write: write.moves),
    "repository's immutable tags": Switch(
        _repository(immutable_tags=["v?"]), TagImmutableError, lambda write: write.moves
    ),
    "quotas full": Switch(_fill_quotas, QuotaExceededError, lambda write: write.grows),
}


@pytest.mark.parametrize("switch", SWITCHES.values(), ids=SWITCHES.keys())
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
async def test_matrix(backend: Backend, owner: Owner, write: Write, switch: Switch) -> None:
    world = await make_world(namespace_of(backend))
    call = await write.prepare(world)
    await switch.turn(backend)
    before = contents(owner)
    if switch.forbids(write):
        with pytest.raises(switch.refusal):
            await call()
        assert contents(owner) == before
    else:
        await call()
    await use_of(backend, "acme")


def contents(owner: Owner) -> snapshots.Rows:
    """All rows but the parts of what is free, which are divided anew before something is refused."""
    return {table: rows for table, rows in snapshots.rows_over(owner).items() if table != "tenant_usage"}


# -- nothing is forgotten ---------------------------------------------------------------------------------------------


def test_every_member_writes_or_reads() -> None:
    members = {
        f"{interface.__name__}.{name}"
        for interface in interfaces()
        for name, member in vars(interface).items()
        if not name.startswith("_") and inspect.isfunction(member)
    }
    writes = {write.member for write in WRITES.values()}
    assert sorted(writes & READS) == []
    assert sorted(members ^ (writes | READS)) == [], "a new member belongs into tests/switches/writes.py"
