"""`python -m benchmarks.tenancy`: what it costs that everybody logs in, and that there are many tenants.

A manifest GET by tag through the whole application, without a web server: with `--auth token` under row-level security,
against the same without either; and that with few tenants and with many, whose clients ask at random, each with a
token of its own. Few tenants have as many tags as many, so that the one difference is whose they are. Rounds are in
turn, so what else the machine does meets all alike; CPU time is of our own process and of PostgreSQL's. The rates'
ratios say more than the rates.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple, Protocol

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import make_folder
from benchmarks.costs import postgres_cpu
from benchmarks.isolation import AT_ONCE, Cost, filled_catalogue, without_policies
from distsql.api.application import Application, Service
from distsql.api.requests import Limits
from distsql.app import Registry, create_authorizer
from distsql.oci.names import RepositoryName
from distsql.registry.authentication import Authenticator
from distsql.registry.authorities import Account
from distsql.registry.grants import Grant
from distsql.registry.namespace import StoredNamespace
from distsql.registry.tokens import Access
from distsql.settings import Settings
from distsql.values import Action, Caller

FEW: Final = 10
MANY: Final = 10_000
ACCOUNTS: Final = 10
"""Of each tenant, one of which asks."""

_FILL: Final = """
insert into accounts (tenant_id, id, name, kind, secret_hash)
    select n, (n - 1) * {accounts} + a, 'ci-' || a, 'robot', 'x'
    from generate_series(1, {tenants}) n, generate_series(1, {accounts}) a;
insert into grants (tenant_id, account_id, pattern, action) select tenant_id, id, '**', 'pull' from accounts;
vacuum analyze
"""


class Catalogue(NamedTuple):
    """A filled one: tenants with so many tags each."""

    url: str
    folder: Path
    tenants: int
    tags: int

    @property
    def paths(self) -> list[str]:
        """A request for each tag."""
        return [
            f"/v2/tenant-{tenant}/web/manifests/{'latest' if tag == 1 else f'v{tag}'}"
            for tenant in range(1, self.tenants + 1)
            for tag in range(1, self.tags + 1)
        ]


@dataclass
class Side:
    """What is measured: an application, its requests, and what clients show with each."""

    name: str
    folder: Path
    application: Application
    paths: Sequence[str]
    headers: Sequence[list[tuple[bytes, bytes]]]
    costs: list[Cost] = field(default_factory=list)

    async def run(self, requests: int) -> None:
        """One round."""
        started, own, postgres = time.perf_counter(), time.process_time(), postgres_cpu(self.folder)
        await asyncio.gather(*(self._ask(requests // AT_ONCE) for _ in range(AT_ONCE)))
        spent = time.process_time() - own, postgres_cpu(self.folder) - postgres, time.perf_counter() - started
        self.costs.append(Cost(*(each * 1000 / requests for each in spent)))

    async def _ask(self, requests: int) -> None:
        for _ in range(requests):
            await self.get(random.randrange(len(self.paths)))

    async def get(self, number: int) -> None:
        """A manifest by its tag."""
        path = self.paths[number]
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": self.headers[number],
        }
        statuses = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(message: MutableMapping[str, Any]) -> None:
            statuses.append(message.get("status"))

        await self.application(scope, receive, send)
        if statuses[0] != 200:  # a benchmark of errors measures nothing
            raise SystemExit(f"{path}: {statuses}")


@dataclass(frozen=True)
class _Fronted:
    """A registry whose namespace is another one."""

    registry: Registry
    namespace: StoredNamespace

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def check(self) -> None: ...


async def issue_tokens(authenticator: Authenticator, tenants: int) -> list[str]:
    """One for an account of each tenant, as the token endpoint issues it."""
    tokens = []
    for tenant in range(1, tenants + 1):
        name, granted = f"tenant-{tenant}", frozenset({Action.PULL})
        key = (tenant, (tenant - 1) * ACCOUNTS + 1)
        account = Account(key, name, "ci-1", None, 0, 0, (Grant(name, "**", granted),))
        access = Access(RepositoryName(name, "web"), granted, tenant, tenant)
        tokens.append((await authenticator.issue(account, {f"{name}/web": access}))[0])
    return tokens


@asynccontextmanager
async def open_sides(catalogue: Catalogue) -> AsyncIterator[tuple[Side, Side]]:
    """With tokens and row-level security, and without."""
    url, folder, tenants, tags = catalogue
    settings = Settings(database_url=url, storage=(folder / "bytes").as_uri(), access_log=False, auth="token")
    common: list[tuple[bytes, bytes]] = [(b"host", b"127.0.0.1:5000"), (b"accept", b"*/*")]

    def application(service: Service, **more: Any) -> Application:  # as the application has it
        return Application(service, limits=Limits(), access_log=None, **more)

    async with Registry(settings) as registry:
        plain = replace(registry.backend, database=without_policies(registry.backend))
        authorizer = create_authorizer(registry.backend, settings)
        shown = await issue_tokens(authorizer.authenticator, tenants)
        paths = catalogue.paths
        with_tokens = [
            [*common, (b"authorization", f"Bearer {token}".encode())] for token in shown for _ in range(tags)
        ]
        guarded = application(registry, authorizer=authorizer)
        fronted = application(_Fronted(registry, StoredNamespace(plain, Caller())))
        yield (
            Side(f"{tenants} tenants, tokens", folder, guarded, paths, with_tokens),
            Side(f"{tenants} tenants, open", folder, fronted, paths, [common] * len(paths)),
        )
        await authorizer.authenticator.close()


async def measure(
    catalogues: Sequence[Catalogue], *, rounds: int, requests: int, tell: Callable[[str], None]
) -> list[Side]:
    """Every side's rounds, in turn. Before them each client asks once: tokens live for minutes, and are read once."""
    async with AsyncExitStack() as stack:
        sides: list[Side] = []
        for catalogue in catalogues:
            sides += await stack.enter_async_context(open_sides(catalogue))
        for side in sides:
            tell(f"{side.name}: every client once")
            for number in range(len(side.paths)):
                await side.get(number)
            await side.run(requests)
            side.costs.clear()
        for number in range(rounds):
            for side in random.sample(sides, len(sides)):
                tell(f"{side.name}: round {number + 1}")
                await side.run(requests)
        return sides


@contextmanager
def fill(folder: Path, *, tenants: int, tags: int = 1) -> Iterator[Catalogue]:
    """Tenants with tagged manifests each, and accounts."""
    folder.mkdir(mode=0o755)
    with filled_catalogue(folder, tenants=tenants, tags=tags) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in _FILL.format(tenants=tenants, accounts=ACCOUNTS).split(";\n"):
                connection.execute(statement.encode())
        yield Catalogue(url, folder, tenants, tags)


class Measured(Protocol):
    """What has been measured."""

    name: str
    costs: list[Cost]


def ratios(one: Measured, other: Measured) -> tuple[list[float], list[float]]:
    """Of each round, how the other's cost is to the one's: by the clock (rates, the other way round), and in CPU."""
    pairs = list(zip(one.costs, other.costs, strict=True))
    clock = [theirs.clock / ours.clock for ours, theirs in pairs]
    return clock, [(theirs.own + theirs.postgres) / (ours.own + ours.postgres) for ours, theirs in pairs]


def describe(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


def show(sides: Sequence[Measured], *, both: str) -> None:
    """What few and many tenants cost, each with tokens and without, and how they compare."""
    few, few_open, many, many_open = sides
    compare(
        sides,
        [
            (f"{both}, few tenants", few, few_open, "0.70"),
            (f"{both}, many tenants", many, many_open, "0.70"),
            ("many tenants against few, with tokens", many, few, "0.90"),
            ("many tenants against few, open", many_open, few_open, ""),
        ],
    )


def compare(sides: Sequence[Measured], pairs: Sequence[tuple[str, Measured, Measured, str]]) -> None:
    """What each side costs, and how the first of a pair does beside the second."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table("manifest GET by tag", "server ms", "PostgreSQL ms", "together", "clock ms", "rounds")
    for side in sides:
        own, postgres, clock = (median(figures) for figures in zip(*side.costs, strict=True))
        figures = (f"{each:.3f}" for each in (own, postgres, own + postgres, clock))
        table.add_row(side.name, *figures, str(len(side.costs)))
    console.print(table)
    compared = Table("ratio, median (least - most of a round)", "requests/s", "requests for the same CPU", "promised")
    for name, one, other, bar in pairs:
        clock, cpu = ratios(one, other)
        compared.add_row(name, describe(clock), describe(cpu), bar)
    console.print(compared)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tenancy", description=__doc__)
    parser.add_argument("--tenants", type=int, nargs=2, default=[FEW, MANY], metavar=("FEW", "MANY"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=8000, help="of a round")
    arguments = parser.parse_args()
    progress = Console(stderr=True)
    with make_folder() as folder, ExitStack() as stack, progress.status("", refresh_per_second=2) as status:
        catalogues = [
            stack.enter_context(fill(folder / str(tenants), tenants=tenants, tags=max(arguments.tenants) // tenants))
            for tenants in arguments.tenants
        ]
        sides = asyncio.run(
            measure(catalogues, rounds=arguments.rounds, requests=arguments.requests, tell=status.update)
        )
    show(sides, both="tokens and row-level security against none")
    return 0


if __name__ == "__main__":
    sys.exit(main())
