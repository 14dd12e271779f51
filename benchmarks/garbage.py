"""`python -m benchmarks.garbage`: races of garbage collection at length, a soak, and how fast it is.

Pushes, mounts, HEADs and collections of one digest in a tight loop; mixed operations with a collection each second;
blobs reviewed in a second by one process; the deletion of a repository of many tags. All in this process, with a
private PostgreSQL and a folder. Exit status 1: something acknowledged was lost, or something unreferenced is left.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
from rich.console import Console

from benchmarks.__main__ import make_folder
from benchmarks.garbage_comparisons import compare, measure_pushes
from benchmarks.garbage_races import (
    NOW,
    RACES,
    WORKERS,
    collect,
    collecting,
    left_over,
    numbered,
    patiently,
    pulled_whole,
    push,
)
from distsql.app import Registry
from distsql.embedded import PrivatePostgres
from distsql.errors import BlobUnknownError, ManifestUnknownError, RegistryError
from distsql.oci.digest import Digest
from distsql.settings import Settings
from distsql.sql import schema

_CONTENTS: Final = [f"layer {number}".encode() * 20 for number in range(40)]


class Soak:
    """Mixed operations of one worker in a repository of its own, and what it was told that there is."""

    def __init__(self, registry: Registry, name: str) -> None:
        self.repository = registry.namespace.repository(name)
        self.expected: dict[str, Digest] = {}
        self.wrong: list[str] = []

    async def work(self, numbers: Iterator[int]) -> None:
        """Takes numbers as long as there are some."""
        for number in numbers:
            tag = f"v{random.randint(0, 9)}"
            known = self.expected.get(tag)
            if known is None or random.random() < 0.35:  # a share
                chosen = random.sample(_CONTENTS, 3)
                await patiently(partial(self._push, chosen, tag, number))
            else:
                do = random.choice([self._retag, self._delete, self._mount, self._pull])
                await patiently(partial(do, tag, known))

    async def _push(self, layers: list[bytes], tag: str, number: int) -> None:
        self.expected[tag] = (await push(self.repository, layers, tag, number)).digest

    async def _retag(self, tag: str, known: Digest) -> None:
        del tag
        await self.repository.tags.tag("stable", known)
        self.expected["stable"] = known

    async def _delete(self, tag: str, known: Digest) -> None:
        del tag
        with suppress(ManifestUnknownError):  # deleted, and not acknowledged
            await self.repository.manifests.delete(known)
        self.expected = {name: digest for name, digest in self.expected.items() if digest != known}

    async def _mount(self, tag: str, known: Digest) -> None:
        del tag, known
        with suppress(BlobUnknownError):
            await self.repository.layers.mount(Digest.of(random.choice(_CONTENTS)))

    async def _pull(self, tag: str, known: Digest) -> None:
        found = await self.repository.manifests.get_by_tag(tag)
        if found.digest != known or not await pulled_whole(self.repository, tag):
            self.wrong.append(f"{self.repository.name}:{tag} isn't what was pushed")

    async def check(self) -> None:
        """Everything that was acknowledged can be pulled."""
        for tag, digest in self.expected.items():
            try:
                await self._pull(tag, digest)
            except RegistryError as error:
                self.wrong.append(f"{self.repository.name}:{tag}: {error}")


async def soak(registry: Registry, operations: int) -> list[str]:
    """Mixed operations, with a collection each second: what went wrong."""
    workers = [Soak(registry, f"soak/web{number}") for number in range(WORKERS)]
    numbers = numbered(operations, "soak")
    async with collecting(registry, grace=timedelta(seconds=2), pause_s=1):
        await asyncio.gather(*(worker.work(numbers) for worker in workers))
    for worker in workers:
        await worker.check()
    return [*(each for worker in workers for each in worker.wrong), *await left_over(registry)]


_FILL: Final = """
insert into tenants (name) values ('big') on conflict do nothing;
insert into repositories (tenant_id, path) select id, 'web' from tenants where name = 'big';
insert into blobs (tenant_id, digest, length, store_key)
    select r.tenant_id, '\\x01'::bytea || sha256(n::text::bytea), 1, 'none/' || n
    from repositories r join tenants t on t.id = r.tenant_id, generate_series(1, {blobs}) n where t.name = 'big';
insert into layers (tenant_id, repository_id, digest)
    select b.tenant_id, r.id, b.digest from blobs b join repositories r on r.tenant_id = b.tenant_id
    join tenants t on t.id = r.tenant_id where t.name = 'big';
insert into garbage_queue (tenant_id, id, kind, repository_id, digest)
    select l.tenant_id, (random() * 9007199254740991)::bigint, 'layer', l.repository_id, l.digest
    from layers l join tenants t on t.id = l.tenant_id where t.name = 'big';
insert into manifests (tenant_id, repository_id, digest, media_type, length, payload, pushed_by)
    select r.tenant_id, r.id, '\\x01'::bytea || sha256(payload), 'application/json', length(payload), payload, 'ann'
    from repositories r, generate_series(1, {tags}) n, convert_to('manifest ' || n, 'UTF8') payload
    where r.tenant_id = (select id from tenants where name = 'big');
insert into tags (tenant_id, repository_id, name, digest, actor)
    select tenant_id, repository_id, 'v' || row_number() over (), digest, 'ann' from manifests
    where tenant_id = (select id from tenants where name = 'big');
analyze
"""


async def measure(registry: Registry, url: str, *, blobs: int, tags: int) -> tuple[float, float, float]:
    """Blobs reviewed (and condemned) in a second, and their bytes deleted; seconds that a large deletion takes."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _FILL.format(blobs=blobs, tags=tags).split(";\n"):
            connection.execute(statement.encode())
    started = time.perf_counter()
    found = await collect(registry, recovery=timedelta(days=1))
    reviewed = found.blobs / (time.perf_counter() - started)
    started = time.perf_counter()
    await collect(registry)
    deleted = found.blobs / (time.perf_counter() - started)
    started = time.perf_counter()
    await registry.namespace.repository("big/web").remove()
    return reviewed, deleted, time.perf_counter() - started


async def run(url: str, folder: Path, arguments: argparse.Namespace, console: Console) -> int:
    """All of it; the exit status."""
    settings = Settings(database_url=url, storage=(folder / "bytes").as_uri(), access_log=False, gc_grace=NOW)
    async with Registry(settings) as registry:
        wrong = []
        works = [(name, race, arguments.rounds) for name, race in RACES.items() if arguments.only in name]
        for name, work, number in [*works, ("soak", soak, arguments.operations)]:
            if not number:
                continue
            started = time.perf_counter()
            found = await work(registry, number)
            console.print(f"{name}: {number} in {time.perf_counter() - started:.0f} s, {len(found)} wrong")
            wrong += found
        if arguments.manifests:
            for line in await compare(registry, url, folder, arguments.manifests):
                console.print(line, markup=False)
                wrong += [line] if line.startswith("WRONG") else []
        if arguments.pushes:
            quiet, busy, ratio = await measure_pushes(registry, url, rounds=5, pushes=arguments.pushes)
            console.print(
                f"p99 of a push: {quiet * 1000:.1f} ms, {busy * 1000:.1f} beside collection, {ratio:.2f} times"
            )
        reviewed, deleted, seconds = await measure(registry, url, blobs=arguments.blobs, tags=arguments.tags)
        console.print(f"{reviewed:.0f} blobs reviewed and condemned in a second, bytes of {deleted:.0f} deleted")
        console.print(f"a repository of {arguments.tags} tags is deleted in {seconds:.3f} s")
    for each in wrong[:20]:
        console.print(each, markup=False)
    return 1 if wrong else 0


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """How much of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.garbage", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000, help="of the races")
    parser.add_argument("--only", default="", help="races whose names have this in them")
    parser.add_argument("--operations", type=int, default=100_000, help="of the soak")
    parser.add_argument("--manifests", type=int, default=20_000, help="of the comparison with docker-registry")
    parser.add_argument("--pushes", type=int, default=300, help="of a round with and without collection")
    parser.add_argument("--blobs", type=int, default=20_000, help="to be reviewed")
    parser.add_argument("--tags", type=int, default=20_000, help="of the repository that is deleted")
    return parser.parse_args(given)


def main() -> int:
    arguments = parse_arguments()
    with make_folder() as folder, PrivatePostgres(folder) as postgres:
        url = postgres.url(folder)
        schema.migrate(url)
        return asyncio.run(run(url, folder, arguments, Console()))


if __name__ == "__main__":
    sys.exit(main())
