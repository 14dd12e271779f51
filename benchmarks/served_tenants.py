"""`python -m benchmarks.served_tenants`: as `benchmarks.tenancy`, through `distsql serve` as it is run.

Each of the four servers has one worker and does all that a server does (counting pulls, collecting garbage); the two
with few tenants share a PostgreSQL, and the two with many. Without tokens there is row-level security too. `wrk` asks
over 16 connections, with a client's token at random. The web server costs the same on all sides, so the ratios are
nearer to one than those of `benchmarks.tenancy`, which is the stricter of the two. With `--auth` there is one way only,
for more rounds in the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.__main__ import make_folder
from benchmarks.clients import Buffers, Response, Script, expect, request, run_scripts
from benchmarks.isolation import AT_ONCE, Cost
from benchmarks.load import Pace, get
from benchmarks.processes import find_processes
from benchmarks.servers import Distsql
from benchmarks.tenancy import FEW, MANY, Catalogue, compare, fill, issue_tokens, show
from distsql.app import Registry, create_authorizer
from distsql.settings import Settings

WORDS: Final = {"token": "tokens", "none": "open"}
AUTHS: Final = tuple(WORDS)
SCRIPT: Final = Path(__file__).with_name("many.lua")


class Tenants(Distsql):
    """A server of a catalogue that is there."""

    def __init__(self, name: str, folder: Path, *, url: str, storage: str, auth: str) -> None:
        super().__init__(name, folder)
        self._environment |= {"DISTSQL_DATABASE_URL": url, "DISTSQL_STORAGE": storage, "DISTSQL_AUTH": auth}

    def command(self) -> list[str]:
        return [sys.executable, "-m", "distsql", "serve", "--port", str(self.port), "--workers", "1"]


@dataclass
class Side:
    """What is measured: a server, its PostgreSQL's folder, and the requests of its clients."""

    name: str
    server: Tenants
    folder: Path
    clients: Sequence[tuple[str, str]]
    """Path and token."""
    file: Path
    costs: list[Cost] = field(default_factory=list)

    def warm_up(self) -> None:
        """Every client asks once: tokens live for minutes, and are read once."""
        run_scripts(self.server.port, (self._once(self.clients[at::AT_ONCE]) for at in range(AT_ONCE)))

    def _once(self, clients: Sequence[tuple[str, str]]) -> Script:
        for path, token in clients:
            headers = f"Authorization: Bearer {token}\r\n" if token else ""
            sent: Buffers = request("GET", path, headers=headers)
            response: Response = yield sent
            expect(response, 200, path)

    def run(self, seconds: float) -> None:
        """One round."""
        before = self._cpu()
        load = get(self.server, "/", Pace(seconds, AT_ONCE), script=SCRIPT, given=[str(self.file)])
        own, postgres = (now - then for now, then in zip(self._cpu(), before, strict=True))
        self.costs.append(Cost(*(each * 1000 / load.requests for each in (own, postgres, load.seconds))))

    def _cpu(self) -> tuple[float, float]:
        found = find_processes(self.server.pid, self.folder)
        of_postgres = sum(each.cpu for each in found if each.is_postgres)
        return sum(each.cpu for each in found) - of_postgres, of_postgres


async def _tokens(url: str, storage: str, tenants: int) -> list[str]:
    settings = Settings(database_url=url, storage=storage, access_log=False, auth="token")
    async with Registry(settings) as registry:
        authenticator = create_authorizer(registry.backend, settings).authenticator
        tokens = await issue_tokens(authenticator, tenants)
        await authenticator.close()
    return tokens


@contextmanager
def open_sides(catalogue: Catalogue, auths: Sequence[str] = AUTHS) -> Iterator[Sequence[Side]]:
    """With tokens, and without."""
    folder, tenants, tags = catalogue[1:]
    with ExitStack() as stack:
        url, paths, storage = catalogue.url, catalogue.paths, (folder / "bytes").as_uri()
        tokens = asyncio.run(_tokens(url, storage, tenants))
        shown = {"token": [token for token in tokens for _ in range(tags)], "none": [""] * len(paths)}
        sides = []
        for auth in auths:
            server = Tenants(f"{tenants} tenants, {WORDS[auth]}", folder / auth, url=url, storage=storage, auth=auth)
            stack.enter_context(server)
            clients = list(zip(paths, shown[auth], strict=True))
            file = folder / auth / "clients"
            file.write_text("".join(f"{path} {token}\n" for path, token in clients))
            sides.append(Side(server.name, server, folder, clients, file))
        yield sides


def measure(sides: Sequence[Side], *, rounds: int, seconds: float, tell: Callable[[str], None]) -> None:
    """Every side's rounds, in turn."""
    for side in sides:
        tell(f"{side.name}: every client once")
        side.warm_up()
        side.run(seconds)
        side.costs.clear()
    for number in range(rounds):
        for side in random.sample(sides, len(sides)):
            tell(f"{side.name}: round {number + 1}")
            side.run(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.served_tenants", description=__doc__)
    parser.add_argument("--tenants", type=int, nargs=2, default=[FEW, MANY], metavar=("FEW", "MANY"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3, help="of a round")
    parser.add_argument("--auth", choices=AUTHS, help="one way only, many tenants against few")
    arguments = parser.parse_args()
    auths = AUTHS if arguments.auth is None else (arguments.auth,)
    progress = Console(stderr=True)
    with make_folder() as folder, ExitStack() as stack, progress.status("", refresh_per_second=2) as status:
        sides: list[Side] = []
        for tenants in arguments.tenants:
            status.update(f"a catalogue of {tenants} tenants")
            tags = max(arguments.tenants) // tenants
            catalogue = stack.enter_context(fill(folder / str(tenants), tenants=tenants, tags=tags))
            sides += stack.enter_context(open_sides(catalogue, auths))
        measure(sides, rounds=arguments.rounds, seconds=arguments.seconds, tell=status.update)
    if arguments.auth is None:
        show(sides, both="--auth token against --auth none")
    else:
        few, many = sides
        compare(sides, [(f"many tenants against few, {WORDS[arguments.auth]}", many, few, "0.90")])
    return 0


if __name__ == "__main__":
    sys.exit(main())
