"""How much a server grows while 16 clients at once upload, and then download, a large blob each.

Streaming is a promise: bodies pass through, they aren't collected. The server is fresh (a few small uploads, so that
what each worker loads on first use is loaded) and its peak is the kernel's own (VmHWM), not one sampled now and then.
PostgreSQL's processes are counted apart, for what they touch of their shared buffers looks like growth and isn't.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.clients import Script, expect, request, run_scripts
from benchmarks.content import APP, Blob, BlobSource, upload_all
from benchmarks.servers import Server

CLIENTS: Final = 16
BAR: Final = 32 << 20
WARM_UP: Final = 1024
WARMERS: Final = 4


@dataclass(frozen=True, slots=True)
class Growth:
    """Bytes: before, and at most more while uploads and then downloads ran."""

    server: str
    before: int
    uploading: int
    downloading: int
    postgres: int
    """Of PostgreSQL's processes, from before to after both."""

    @property
    def most(self) -> int:
        return max(self.uploading, self.downloading)


def measure_growth(server: Server, size: int) -> Growth:
    run_scripts(server.port, [_upload_and_read(BlobSource(WARM_UP).make()) for _ in range(WARMERS)])
    source = BlobSource(size)
    blobs = [source.make() for _ in range(CLIENTS)]
    before = server.memory()
    uploading = _peak(server, [upload_all(APP, iter([blob])) for blob in blobs])
    downloading = _peak(server, [_download(blob) for blob in blobs])
    postgres = server.memory().postgres - before.postgres
    return Growth(server.name, before.own, uploading - before.own, downloading - before.own, postgres)


def _peak(server: Server, scripts: list[Script]) -> int:
    server.reset_peak()
    run_scripts(server.port, scripts)
    return server.memory().own_peak


def _upload_and_read(blob: Blob) -> Script:
    yield from upload_all(APP, iter([blob]))
    yield from _download(blob)


def _download(blob: Blob) -> Script:
    answer = yield request("GET", f"/v2/{APP}/blobs/{blob.digest}")
    expect(answer, 200, "GET of a blob")
