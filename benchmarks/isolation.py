"""`python -m benchmarks.isolation`: what row-level security costs a manifest GET by tag.

The same requests as the owner who needs no policies, with the serving role under them, and as behind a pooler, in turn:
what else the machine does meets all alike. CPU time of our own process and of PostgreSQL's, as in benchmarks/costs.py.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import make_folder
from benchmarks.costs import postgres_cpu
from distsql.app import Registry
from distsql.embedded import PrivatePostgres
from distsql.registry.context import Backend
from distsql.registry.namespace import StoredNamespace
from distsql.settings import Settings
from distsql.sql import schema
from distsql.sql.database import Database
from distsql.values import Caller

_FILL: Final = """
insert into tenants (id, name) select n, 'tenant-' || n from generate_series(1, {tenants}) n;
insert into repositories (tenant_id, id, path) select n, n, 'web' from generate_series(1, {tenants}) n;
insert into manifests (tenant_id, repository_id, digest, media_type, length, payload, pushed_by)
    select n, n, '\\x01'::bytea || sha256(payload), 'application/vnd.oci.image.manifest.v1+json', 500, payload, 'ann'
    from generate_series(1, {tenants}) n, generate_series(1, {tags}) t,
        convert_to(rpad(n || '-' || t || '-', 500, 'x'), 'UTF8') payload;
insert into tags (tenant_id, repository_id, name, digest, valid_from, actor)
    select tenant_id, repository_id, case tag when '1' then 'latest' else 'v' || tag end, digest, now(), 'ann'
    from manifests, split_part(convert_from(payload, 'UTF8'), '-', 2) tag;
vacuum analyze
"""
AT_ONCE: Final = 16
VARIANTS: Final = {"off": "none", "on": "none", "on, pooler: prepared": "prepared", "on, pooler": "transaction"}
"""What is measured, and what the registry believes to be between itself and PostgreSQL (where nothing is)."""


class Cost(NamedTuple):
    """Milliseconds for each request: of CPU in our process, in PostgreSQL's, and by the clock."""

    own: float
    postgres: float
    clock: float


class _Unseparated:
    """The owner's catalogue in the place of a tenant's: no role, no policy, no setting."""

    def __init__(self, backend: Backend) -> None:
        self._everything = backend.everything

    def __getattr__(self, name: str) -> object:
        return getattr(self._everything, name)

    def of(self, tenant: str, tenant_id: int | None = None) -> object:
        """Everybody's."""
        del tenant, tenant_id
        return self

    @property
    def pull(self) -> object:
        """A read as any other: there is no replica."""
        return self._everything.read


def without_policies(backend: Backend) -> Database:
    """The catalogue without row-level security, in the place of the one with it."""
    return _Unseparated(backend)  # type: ignore[return-value]  # it stands in for all that reads use


async def _measure(namespace: StoredNamespace, folder: Path, *, tenants: int, requests: int) -> Cost:
    started, own, postgres = time.perf_counter(), time.process_time(), postgres_cpu(folder)

    async def ask() -> None:
        for _ in range(requests // AT_ONCE):
            tenant = random.randint(1, tenants)
            await namespace.repository(f"tenant-{tenant}/web").manifests.get_by_tag("latest")

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    spent = time.process_time() - own, postgres_cpu(folder) - postgres, time.perf_counter() - started
    return Cost(*(each * 1000 / requests for each in spent))


def _namespace(registry: Registry, *, separated: bool) -> StoredNamespace:
    backend = registry.backend
    if not separated:
        backend = replace(backend, database=without_policies(backend))
    return StoredNamespace(backend, Caller())


async def measure(
    url: str, folder: Path, *, tenants: Sequence[int], rounds: int, requests: int
) -> dict[tuple[int, str], Cost]:
    """Medians by number of tenants and variant, of rounds in turn after one to warm up."""
    measured: dict[tuple[int, str], list[Cost]] = {}
    async with AsyncExitStack() as stack:
        namespaces = {}
        for variant, pooler in VARIANTS.items():
            settings = Settings(database_url=url, storage=(folder / "bytes").as_uri(), access_log=False, pooler=pooler)
            registry = await stack.enter_async_context(Registry(settings))
            namespaces[variant] = _namespace(registry, separated=variant != "off")
        for number in range(rounds + 1):
            for among in tenants:
                for variant, namespace in namespaces.items():
                    cost = await _measure(namespace, folder, tenants=among, requests=requests)
                    if number:
                        measured.setdefault((among, variant), []).append(cost)
    return {case: Cost(*(median(figures) for figures in zip(*costs, strict=True))) for case, costs in measured.items()}


@contextmanager
def filled_catalogue(folder: Path, *, tenants: int, tags: int = 1) -> Iterator[str]:
    """The URL of a private PostgreSQL with tenants of so many tagged manifests each."""
    with PrivatePostgres(folder) as postgres:
        url = postgres.url(folder)
        schema.migrate(url)
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in _FILL.format(tenants=tenants, tags=tags).split(";\n"):
                connection.execute(statement.encode())
        yield url


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.isolation", description=__doc__)
    parser.add_argument("--tenants", type=int, nargs="+", default=[1, 10, 10_000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2000, help="of a round")
    arguments = parser.parse_args()
    table = Table("tenants", "row-level security", "server ms", "PostgreSQL ms", "together", "clock ms", "of off")
    with make_folder() as folder, filled_catalogue(folder, tenants=max(arguments.tenants)) as url:
        measured = asyncio.run(
            measure(url, folder, tenants=arguments.tenants, rounds=arguments.rounds, requests=arguments.requests)
        )
    for (tenants, variant), cost in measured.items():
        figures = (f"{each:.3f}" for each in (cost.own, cost.postgres, cost.own + cost.postgres, cost.clock))
        table.add_row(str(tenants), variant, *figures, f"{measured[tenants, 'off'].clock / cost.clock:.0%}")
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
