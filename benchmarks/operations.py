"""What is compared. An operation knows how to check that a server does it right, and how to make one round of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.clients import LoadFailed, Script, expect
from benchmarks.content import APP, MANY_TAGS, TAG, Blob, BlobSource, Content, make_salt, put_manifest, upload_all
from benchmarks.load import Load, Pace, Tally, ask, get, head, run_clients, ticks
from benchmarks.servers import Server

PAGE = 100
PARALLEL_UPLOADS = 16


def _accept_anything(_: bytes) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    load: Callable[[Server, Pace], Load]
    check: Callable[[Server], None]
    large: int = 0
    """Bytes of each body, when these and not the requests are counted."""
    leaves_files: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """GET or HEAD of one path. `valid` looks at the body of a first answer."""

    method: Callable[[Server, str, Pace], Load]
    path: str
    valid: Callable[[bytes], bool] = field(default=_accept_anything)

    def load(self, server: Server, pace: Pace) -> Load:
        return self.method(server, self.path, pace)

    def check(self, server: Server) -> None:
        if not self.valid(ask(server, "HEAD" if self.method is head else "GET", self.path)):
            raise LoadFailed(f"{server.name}: {self.path} answers with something else than was put there")


def list_operations(content: Content, uploads: int) -> list[Operation]:
    """`uploads` is how many large blobs a round uploads."""
    size = content.sizes.large
    manifests, blobs = f"/v2/{APP}/manifests", f"/v2/{APP}/blobs"
    large = f"{size >> 20} MiB"
    return [
        _reading("manifest GET by tag", Reading(get, f"{manifests}/{TAG}", content.manifest.__eq__)),
        _reading("manifest GET by digest", Reading(get, f"{manifests}/{content.digest}", content.manifest.__eq__)),
        _reading("manifest HEAD by tag", Reading(head, f"{manifests}/{TAG}")),
        _reading("blob HEAD", Reading(head, f"{blobs}/{content.large.digest}")),
        _reading("blob GET 1 KiB", Reading(get, f"{blobs}/{content.config.digest}", _is(content.config))),
        _reading(f"blob GET {large}", Reading(get, f"{blobs}/{content.large.digest}", _is(content.large)), large=size),
        _reading("tags, first page", Reading(get, f"/v2/{MANY_TAGS}/tags/list?n={PAGE}", _has(content.tags[0]))),
        _reading("tags, deep page", _deep_page(content)),
        Operation("manifest PUT", _put_manifests(content), _nothing_to_check),
        Operation("blob PUT 1 KiB", _upload_for_a_time(content.small_blobs), _nothing_to_check),
        Operation(
            f"blob PUT {large}",
            _upload_some(content.large_blobs, uploads),
            _nothing_to_check,
            large=size,
            leaves_files=True,
        ),
    ]


def _reading(name: str, reading: Reading, *, large: int = 0) -> Operation:
    return Operation(name, reading.load, reading.check, large=large)


def _nothing_to_check(_: Server) -> None:
    """Our own clients look at every answer themselves."""


def _is(blob: Blob) -> Callable[[bytes], bool]:
    return lambda body: body == b"".join(blob.buffers)


def _has(tag: str) -> Callable[[bytes], bool]:
    """Not the exact page: docker-registry 2.8 knows no pages of tags and answers with all of them."""
    return lambda body: tag in json.loads(body)["tags"]


def _deep_page(content: Content) -> Reading:
    position = len(content.tags) * 9 // 10
    path = f"/v2/{MANY_TAGS}/tags/list?n={PAGE}&last={content.tags[position]}"
    return Reading(get, path, _has(content.tags[position + 1]))


def _put_manifests(content: Content) -> Callable[[Server, Pace], Load]:
    def script(tally: Tally, seconds: float) -> Script:
        for _ in ticks(seconds):
            answer = yield put_manifest(APP, f"t{make_salt().hex()}", content.make_manifest())
            expect(answer, 201, "PUT of a manifest")
            tally.add()

    def load(server: Server, pace: Pace) -> Load:
        return run_clients(server, pace.connections, lambda tally: script(tally, pace.seconds))

    return load


def _upload_for_a_time(source: BlobSource) -> Callable[[Server, Pace], Load]:
    def blobs(tally: Tally, seconds: float) -> Iterator[Blob]:
        for _ in ticks(seconds):
            yield source.make()
            tally.add()

    def load(server: Server, pace: Pace) -> Load:
        return run_clients(server, pace.connections, lambda tally: upload_all(APP, blobs(tally, pace.seconds)))

    return load


def _upload_some(source: BlobSource, number: int) -> Callable[[Server, Pace], Load]:
    """A round is so many uploads, however long they take: one that is cut off by time isn't an upload."""

    def count(tally: Tally, blobs: Iterator[Blob]) -> Iterator[Blob]:
        for blob in blobs:
            yield blob
            tally.add(blob.length)

    def load(server: Server, pace: Pace) -> Load:
        blobs = (source.make() for _ in range(number))
        parallel = min(pace.connections, PARALLEL_UPLOADS)
        return run_clients(server, parallel, lambda tally: upload_all(APP, count(tally, blobs)))

    return load
