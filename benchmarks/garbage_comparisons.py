"""Garbage collection beside pushes, and against docker-registry's offline `garbage-collect` on the same content."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.garbage_races import collect, collecting, patiently, pulled_whole, push, push_blob
from benchmarks.servers import PEER_CONFIG
from distsql.app import Registry
from distsql.oci.digest import Digest
from distsql.oci.manifest import OCI_IMAGE, ParsedManifest, parse
from distsql.registry.reviews import BESIDE_REQUESTS
from distsql.sql import manifests, repositories
from distsql.sql.transactions import Transaction
from distsql.sql.usage import add_usage

_CONFIG: Final = b'{"architecture":"amd64","os":"linux","of":"the comparison"}'
_BATCH: Final = 250
_LAYERS: Final = 100
_LAYER_BYTES: Final = 10_000


@dataclass(frozen=True)
class Half:
    """A repository: its layers, and manifests that share them."""

    name: str
    layers: list[bytes]
    manifests: list[ParsedManifest]

    @property
    def length(self) -> int:
        """Of layers and manifests, in bytes; the config is everybody's."""
        return sum(map(len, self.layers)) + sum(len(each.payload) for each in self.manifests)


def make_half(name: str, count: int) -> Half:
    """So many images."""
    layers = [hashlib.shake_128(f"{name} {number}".encode()).digest(_LAYER_BYTES) for number in range(_LAYERS)]
    return Half(name, layers, [_image(layers[number % _LAYERS], f"{name} {number}") for number in range(count)])


def _image(layer: bytes, number: str) -> ParsedManifest:
    config, described = (
        {"mediaType": "application/octet-stream", "digest": str(Digest.of(each)), "size": len(each)}
        for each in (_CONFIG, layer)
    )
    document = {"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": config, "layers": [described]}
    return parse(json.dumps({**document, "annotations": {"number": number}}).encode())


async def fill(registry: Registry, half: Half) -> None:
    """The repository in distsql: blobs as clients push them, manifests in large transactions."""
    repository = registry.namespace.repository(half.name)
    for content in (_CONFIG, *half.layers):
        await push_blob(repository, content)

    async def insert(tx: Transaction, batch: Sequence[ParsedManifest]) -> None:
        row = await repositories.find_repository(tx, repository._context.name)  # noqa: SLF001  # for the benchmark only
        assert row is not None
        for manifest in batch:
            manifests.insert_manifests(tx, row, [(manifest, "benchmark")])
        add_usage(tx, row.tenant_id, manifests=len(batch))

    for at in range(0, len(half.manifests), _BATCH):
        batch = half.manifests[at : at + _BATCH]
        await registry.backend.everything.transact(lambda tx, batch=batch: insert(tx, batch))  # type: ignore[misc]


def write_peer(storage: Path, kept: Half, gone: Half) -> None:
    """The same content on docker-registry's disk, as it is once the second half's manifests were deleted."""
    root = storage / "docker/registry/v2"

    def link(path: Path, digest: Digest) -> None:
        path.mkdir(parents=True)
        (path / "link").write_text(str(digest))

    for half in (kept, gone):
        contents = {_CONFIG, *half.layers, *(each.payload for each in half.manifests)}
        for content in contents:
            digest = Digest.of(content)
            blob = root / "blobs/sha256" / digest.encoded[:2] / digest.encoded
            if not blob.exists():
                blob.mkdir(parents=True)
                (blob / "data").write_bytes(content)
        repository = root / "repositories" / half.name
        for content in (_CONFIG, *half.layers):
            digest = Digest.of(content)
            link(repository / "_layers/sha256" / digest.encoded, digest)
        (repository / "_manifests/tags").mkdir(parents=True)
        (repository / "_manifests/revisions/sha256").mkdir(parents=True)
        for each in half.manifests if half is kept else ():
            link(repository / "_manifests/revisions/sha256" / each.digest.encoded, each.digest)


def _stored_bytes(storage: Path) -> int:
    return sum(path.stat().st_size for path in (storage / "docker/registry/v2/blobs").rglob("data"))


def collect_peer(folder: Path) -> tuple[int, float]:
    """Bytes that docker-registry frees, and the seconds for which it must not be pushed to."""
    storage, config = folder / "storage", folder / "config.yml"
    config.write_text(PEER_CONFIG.format(storage=storage, port=1))
    before = _stored_bytes(storage)
    started = time.perf_counter()
    subprocess.run(["docker-registry", "garbage-collect", str(config)], check=True, capture_output=True)
    return before - _stored_bytes(storage), time.perf_counter() - started


@dataclass
class Served:
    """What was pushed and pulled meanwhile, and how long each took."""

    seconds: list[float]
    failed: int = 0


@asynccontextmanager
async def serving(registry: Registry) -> AsyncIterator[Served]:
    """A client that pushes an image of its own and pulls it, one after the other."""
    served, done = Served([]), asyncio.Event()
    repository = registry.namespace.repository("busy/web")

    async def work() -> None:
        number = 0
        while not done.is_set():
            number += 1
            started = time.perf_counter()
            await push(repository, [f"busy {number}".encode()], "latest", number)
            served.failed += not await pulled_whole(repository, "latest")
            served.seconds.append(time.perf_counter() - started)

    task = asyncio.create_task(work())
    try:
        yield served
    finally:
        done.set()
        await task


async def compare(registry: Registry, url: str, folder: Path, count: int) -> list[str]:
    """Half of the manifests are deleted, in both; what is freed, in how long, and what was served meanwhile."""
    kept, gone = make_half("acme/kept", count // 2), make_half("acme/gone", count // 2)
    for half in (kept, gone):
        await fill(registry, half)
    await collect(registry, grace=timedelta(hours=1))
    await registry.namespace.repository(gone.name).remove()
    payloads = _payload_bytes(url)
    async with serving(registry) as served:
        await asyncio.sleep(1)
        before = len(served.seconds)
        started = time.perf_counter()
        # The client's own images are young; a repository that was removed goes whole.
        found = await collect(registry, grace=timedelta(minutes=5))
        seconds = time.perf_counter() - started
        meanwhile = len(served.seconds) - before
    freed = found.freed_bytes + payloads - _payload_bytes(url)
    told = f"{count} manifests, half of them deleted: distsql frees {freed} bytes in {seconds:.1f} s"
    lines = [f"{told} and serves {meanwhile} pushes with pulls meanwhile, {served.failed} failed"]
    if shutil.which("docker-registry"):
        await asyncio.to_thread(write_peer, folder / "storage", kept, gone)
        peer_freed, peer_seconds = await asyncio.to_thread(collect_peer, folder)
        lines.append(f"docker-registry frees {peer_freed} bytes in {peer_seconds:.1f} s, offline")
        if not freed == peer_freed == gone.length:
            lines.append(f"WRONG: {gone.length} bytes were to be freed")
    return lines


def _payload_bytes(url: str) -> int:
    """Of the manifests that are compared, in the catalogue; docker-registry has them as blobs."""
    asked = "select coalesce(sum(m.length), 0)::bigint from manifests m join tenants t on t.id = m.tenant_id"
    with psycopg.connect(url) as connection:
        row = connection.execute(f"{asked} where t.name = 'acme'").fetchone()
    assert row is not None
    return int(row[0])


async def measure_pushes(registry: Registry, url: str, *, rounds: int, pushes: int) -> tuple[float, float, float]:
    """p99 of a push without and with a server's collection that has much to do; the median of the paired ratios."""
    repository = registry.namespace.repository("pushes/web")
    number = 0

    async def timed() -> list[float]:
        nonlocal number
        seconds = []
        for _ in range(pushes):
            number += 1
            started = time.perf_counter()
            await patiently(partial(push, repository, [b"layer %d" % number], "latest", number))
            seconds.append(time.perf_counter() - started)
        return seconds

    without, beside, ratios = [], [], []
    await timed()
    for _ in range(rounds):
        _make_garbage(url, pushes * 20)
        quiet = _p99(await timed())
        async with collecting(registry, grace=timedelta(minutes=5), pause_s=1, pace=BESIDE_REQUESTS):
            busy = _p99(await timed())
        without.append(quiet)
        beside.append(busy)
        ratios.append(busy / quiet)
    return statistics.median(without), statistics.median(beside), statistics.median(ratios)


def _p99(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


_GARBAGE: Final = """
insert into tenants (name) values ('heap') on conflict do nothing;
insert into repositories (tenant_id, path) select id, 'heap' from tenants where name = 'heap' on conflict do nothing;
insert into blobs (tenant_id, digest, length, store_key)
    select r.tenant_id, '\\x01'::bytea || sha256((n || ' ' || clock_timestamp())::bytea), 1, 'none/' || random()
    from repositories r join tenants t on t.id = r.tenant_id, generate_series(1, {count}) n
    where t.name = 'heap' and r.path = 'heap';
insert into layers (tenant_id, repository_id, digest, needed_at)
    select b.tenant_id, r.id, b.digest, now() - interval '1 hour'
    from blobs b join repositories r on r.tenant_id = b.tenant_id and r.path = 'heap'
    join tenants t on t.id = r.tenant_id where t.name = 'heap' and b.state = 'live' on conflict do nothing;
insert into garbage_queue (tenant_id, id, kind, repository_id, digest, queued_at)
    select l.tenant_id, (random() * 9007199254740991)::bigint, 'layer', l.repository_id, l.digest,
        now() - interval '1 hour'
    from layers l join tenants t on t.id = l.tenant_id where t.name = 'heap'
"""


def _make_garbage(url: str, count: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _GARBAGE.format(count=count).split(";\n"):
            connection.execute(statement.encode())
