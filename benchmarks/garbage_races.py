"""Races of pushes, mounts and HEADs with garbage collection, at any length; what they share with the soak.

Each gives what went wrong: an acknowledged image that can't be pulled, a promise that was broken, and whatever is
damaged, counted wrongly or left although nothing needs it once everything was collected.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

from distsql.app import Registry
from distsql.contract import Repository
from distsql.errors import BlobUnknownError, ManifestReferencesUnknownError, ManifestUnknownError, UnavailableError
from distsql.oci.digest import Digest
from distsql.oci.manifest import OCI_IMAGE, OCI_INDEX, ParsedManifest, parse
from distsql.registry.garbage import Collected, GarbageCollector
from distsql.registry.namespace import StoredNamespace
from distsql.registry.reviews import AT_ONCE, Pace, Periods
from distsql.registry.tenants import Tenants
from distsql.registry.verification import Verifier
from distsql.values import Caller

NOW: Final = timedelta(0)
WORKERS: Final = 8
_CONFIG: Final = b'{"architecture":"amd64","os":"linux"}'
_SHARED: Final = b"shared by all"
_PROMISE: Final = timedelta(seconds=1)

Race = Callable[[Registry, int], Awaitable[list[str]]]


async def collect(
    registry: Registry, *, grace: timedelta = NOW, recovery: timedelta = NOW, pace: Pace = AT_ONCE
) -> Collected:
    """One run, after which nothing can be restored."""
    periods = Periods(grace, NOW, recovery)
    return await GarbageCollector(registry.backend, Caller("gc"), periods=periods, notify=_ignore, pace=pace).run()


def _ignore(what: str, count: int) -> None:
    del what, count


def image(*layers: bytes, number: int = 0) -> ParsedManifest:
    """An image of these layers."""
    descriptors = [
        {"mediaType": "application/octet-stream", "digest": str(Digest.of(each)), "size": len(each)}
        for each in (_CONFIG, *layers)
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": descriptors[0], "layers": descriptors[1:]}
    return parse(json.dumps({**document, "annotations": {"number": str(number)}}).encode())


async def push_blob(repository: Repository, content: bytes) -> None:
    """Uploads the content."""
    async with await repository.layers.upload() as upload:
        await upload.write(content)
        await upload.finish(Digest.of(content))


async def push(
    repository: Repository, layers: Sequence[bytes], tag: str, number: int, *, always: bool = False
) -> ParsedManifest:
    """Pushes an image as clients do: what is there isn't uploaded; collected on the way, it is pushed again.

    ``always``: every blob is uploaded, whether it is there or not, and finds its bytes stored.
    """
    manifest = image(*layers, number=number)
    while True:
        for content in (_CONFIG, *layers):
            if always or not await repository.layers.exists(Digest.of(content)):
                await push_blob(repository, content)
        try:
            await repository.manifests.put(manifest, [tag])
        except ManifestReferencesUnknownError:
            continue
        return manifest


async def pulled_whole(repository: Repository, tag: str) -> bool:
    manifest = await repository.manifests.get_by_tag(tag)
    for reference in manifest.references():
        layer = await repository.layers.fetch(reference.digest)
        if Digest.of(await layer.read()) != reference.digest:
            return False
    return True


@asynccontextmanager
async def collecting(
    registry: Registry, *, grace: timedelta = NOW, pause_s: float = 0.1, pace: Pace = AT_ONCE
) -> AsyncIterator[None]:
    """Collects all the time, with a breath after each run: a push that never fits between two would never end."""
    done = asyncio.Event()

    async def keep_collecting() -> None:
        while not done.is_set():
            await patiently(lambda: collect(registry, grace=grace, pace=pace))
            await asyncio.sleep(pause_s)

    task = asyncio.create_task(keep_collecting())
    try:
        yield
    finally:
        done.set()
        await task


Result = TypeVar("Result")


async def patiently(call: Callable[[], Awaitable[Result]]) -> Result:
    """As clients do with 503: again a moment later. What wasn't acknowledged may have happened, or not."""
    while True:
        try:
            return await call()
        except UnavailableError:
            await asyncio.sleep(0.5)


def numbered(count: int, what: str) -> Iterator[int]:
    """The numbers of the rounds, for all workers; a line for each tenth of them."""
    step = max(1, count // 10)
    for number in range(count):
        if number and number % step == 0 and count >= 1000:  # a long one
            print(f"{time.strftime('%H:%M:%S')} {what}: {number} of {count}", flush=True)
        yield number


async def push_mount_head(registry: Registry, rounds: int) -> list[str]:
    """Push, mount, HEAD and collection of one digest, with no grace at all (Quay 4c40e06)."""
    wrong: list[str] = []
    left = numbered(rounds, "push, mount, HEAD")

    async def work(worker: int) -> None:
        repository = registry.namespace.repository(f"race/web{worker}")
        for number in left:
            if number % 3 == 0:
                await patiently(partial(_mount, repository, f"race/web{(worker + 1) % WORKERS}"))
            await patiently(partial(_once, repository, number, wrong))

    async with collecting(registry):
        await asyncio.gather(*map(work, range(WORKERS)))
    return [*wrong, *await left_over(registry)]


async def _mount(repository: Repository, source: str) -> None:
    try:
        await repository.layers.mount(Digest.of(_SHARED), source)
    except BlobUnknownError:
        await push_blob(repository, _SHARED)


async def deduplicated_uploads(registry: Registry, rounds: int) -> list[str]:
    """Uploads that find their bytes stored already, while collection condemns and deletes these (GitLab)."""
    wrong: list[str] = []
    left = numbered(rounds, "deduplicated uploads")

    async def work(worker: int) -> None:
        repository = registry.namespace.repository(f"race/web{worker}")
        for number in left:
            await patiently(partial(_once, repository, number, wrong, always=True))

    async with collecting(registry):
        await asyncio.gather(*map(work, range(WORKERS)))
    return [*wrong, *await left_over(registry)]


async def _once(repository: Repository, number: int, wrong: list[str], *, always: bool = False) -> None:
    """An image comes, is pulled, and goes."""
    manifest = await push(repository, [_SHARED], "latest", number, always=always)
    if not await pulled_whole(repository, "latest"):
        wrong.append(f"round {number}: {manifest.digest} can't be pulled")
    with suppress(ManifestUnknownError):  # deleted, and not acknowledged
        await repository.manifests.delete(manifest.digest)


async def promised_children(registry: Registry, rounds: int) -> list[str]:
    """HEAD of a child manifest whose review is due, and an index that needs it: within the promise it is taken."""
    tenants = Tenants(registry.backend.everything, Caller("races"))
    wrong: list[str] = []
    left = numbered(rounds, "HEAD of a child, then its index")
    await push(registry.namespace.repository("promise/web"), [_SHARED], "latest", 0)
    await tenants.set("promise", {"untagged": "collect"})
    namespace = StoredNamespace(replace(registry.backend, grace=_PROMISE), Caller("races"))

    async def work(worker: int) -> None:
        repository = namespace.repository("promise/web")
        child = image(_SHARED, number=worker + 1)
        await repository.manifests.put(child)
        for number in left:
            # Of 16 rounds the first two are around the instant at which the child goes unless somebody asks.
            await asyncio.sleep(_PROMISE.total_seconds() * (0.97 + 0.02 * (number % 3)) if number % 16 < 2 else 0)
            await patiently(partial(_refer, repository, child, number, wrong))

    async with collecting(registry, grace=_PROMISE):
        await asyncio.gather(*map(work, range(WORKERS)))
    await namespace.repository("promise/web").remove()
    return [*wrong, *await left_over(registry)]


async def _refer(repository: Repository, child: ParsedManifest, number: int, wrong: list[str]) -> None:
    """Asks for the child, pushes it if it isn't there, and then its index."""
    asked = time.monotonic()
    there = await repository.manifests.exists(child.digest)
    if not there:
        await repository.manifests.put(child)
    parent = index(child, number=number)
    try:
        await repository.manifests.put(parent)
    except ManifestReferencesUnknownError:
        if time.monotonic() - asked < _PROMISE.total_seconds() / 2:
            wrong.append(f"round {number}: {'promised' if there else 'pushed'}, and gone for its index")
        return
    with suppress(ManifestUnknownError):  # deleted, and not acknowledged
        await repository.manifests.delete(parent.digest)


def index(child: ParsedManifest, *, number: int) -> ParsedManifest:
    """An index of one child."""
    entry = {"mediaType": OCI_IMAGE, "digest": str(child.digest), "size": len(child.payload)}
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    return parse(json.dumps({**document, "annotations": {"number": str(number)}}).encode())


RACES: Final[dict[str, Race]] = {
    "push, mount, HEAD and collection": push_mount_head,
    "deduplicated uploads and collection": deduplicated_uploads,
    "HEAD of a child, its index, and collection": promised_children,
}


async def left_over(registry: Registry) -> list[str]:
    """What is damaged, counted wrongly, or there although nothing needs it, once everything was collected."""
    await asyncio.sleep(1.1)  # what somebody worked with comes again a moment later
    await collect(registry)
    verifier = Verifier(registry.backend, read_bytes=True, grace=NOW, notify=_ignore)
    return [str(finding) async for finding in verifier.findings()]
