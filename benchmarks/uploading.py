"""Uploads of blobs and manifests, no two of which are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.clients import Script, expect
from benchmarks.content import (
    APP,
    CHUNKS,
    Blob,
    BlobSource,
    Content,
    put_manifest,
    upload_all,
    upload_in_chunks,
)
from benchmarks.load import Load, Pace, Tally, run_clients, ticks
from benchmarks.servers import Server

MakeLoad = Callable[[Server, Pace], Load]


def put_manifests(content: Content, make_tag: Callable[[], str]) -> MakeLoad:
    def script(tally: Tally, seconds: float) -> Script:
        for _ in ticks(seconds):
            answer = yield put_manifest(APP, make_tag(), content.make_manifest())
            expect(answer, 201, "PUT of a manifest")
            tally.add()

    def load(server: Server, pace: Pace) -> Load:
        return run_clients(server, pace.connections, lambda tally: script(tally, pace.seconds))

    return load


def upload_for_a_time(source: BlobSource) -> MakeLoad:
    def blobs(tally: Tally, seconds: float) -> Iterator[Blob]:
        for _ in ticks(seconds):
            yield source.make()
            tally.add()

    def load(server: Server, pace: Pace) -> Load:
        return run_clients(server, pace.connections, lambda tally: upload_all(APP, blobs(tally, pace.seconds)))

    return load


def upload_some(source: BlobSource, number: int) -> MakeLoad:
    """A round is so many uploads, however long they take: one that is cut off by time isn't an upload."""

    def count(tally: Tally, blobs: Iterator[Blob]) -> Iterator[Blob]:
        for blob in blobs:
            yield blob
            tally.add(blob.length)

    def load(server: Server, pace: Pace) -> Load:
        blobs = (source.make() for _ in range(number))
        return run_clients(server, pace.connections, lambda tally: upload_all(APP, count(tally, blobs)))

    return load


def upload_chunked(size: int, uploads: int) -> MakeLoad:
    """As many bytes in a round as with whole uploads, in larger blobs and each of these in chunks."""
    number = max(1, uploads // 4)

    def script(source: BlobSource, tally: Tally) -> Script:
        blob = source.make()
        yield from upload_in_chunks(APP, blob, size // CHUNKS)
        tally.add(blob.length)

    def load(server: Server, pace: Pace) -> Load:
        source = BlobSource(size)
        return run_clients(server, min(number, pace.connections), lambda tally: script(source, tally))

    return load
