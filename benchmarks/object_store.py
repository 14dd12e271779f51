"""`python -m benchmarks.object_store`: pushes and pulls through distsql against the bare client library, on one server.

Each round pushes and pulls one large blob both ways, in turn, so what else the machine does meets both. The bare way is
boto3's own transfer, with its defaults. Memory is the kernel's peak of the worker over what it had before. With
redirects on, a pull's bytes are counted where they come from.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import make_folder
from benchmarks.servers import Distsql
from tests.objectstore import BUCKET, ObjectStore, running_store

MIB: Final = 1 << 20
PIECE: Final = MIB
BAR: Final = 0.8
MEMORY_BAR: Final = 32 * MIB
REPOSITORY: Final = "/v2/bench/large"


class DistsqlOnStore(Distsql):
    """A registry whose bytes are in the object store."""

    def __init__(self, folder: Path, store: ObjectStore, *, redirect: str) -> None:
        super().__init__("distsql", folder)
        self._arguments = ["--storage", store.url(), "--redirect", redirect]

    def command(self) -> list[str]:
        return [*super().command(), *self._arguments]


class Sink(io.RawIOBase):
    """Takes bytes and forgets them."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:  # noqa: ANN401
        return len(data)


def push(port: int, content: bytes) -> str:
    """As docker does: a session, a streamed PATCH, a closing PUT; gives the blob's path."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", f"{REPOSITORY}/blobs/uploads/", headers={"content-length": "0"})
    location = _answer(connection, 202)["location"]
    view = memoryview(content)
    pieces = (view[at : at + PIECE] for at in range(0, len(view), PIECE))
    connection.request("PATCH", location, body=pieces, headers={"content-length": str(len(view))})
    _answer(connection, 202)
    connection.request("PUT", f"{location}?digest=sha256:{DIGESTS[id(content)]}", headers={"content-length": "0"})
    path = _answer(connection, 201)["location"]
    connection.close()
    return str(path)


def _answer(connection: http.client.HTTPConnection, status: int) -> Any:  # noqa: ANN401 - headers
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != status:
        raise SystemExit(f"{answer.status} instead of {status}: {body[:500]!r}")
    return answer.headers


def pull(port: int, path: str) -> int:
    """The bytes that came from the registry itself."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("GET", path)
    answer = connection.getresponse()
    count = 0
    while piece := answer.read(PIECE):
        count += len(piece)
    connection.close()
    if answer.status == http.client.TEMPORARY_REDIRECT:
        parts = urlsplit(answer.headers["location"])
        other = http.client.HTTPConnection(parts.netloc, timeout=300)
        other.request("GET", f"{parts.path}?{parts.query}")
        redirected = other.getresponse()
        while redirected.read(PIECE):
            pass
        other.close()
    return count


DIGESTS: Final[dict[int, str]] = {}


def make_content(size: int) -> bytes:
    content = os.urandom(size)
    DIGESTS[id(content)] = hashlib.sha256(content).hexdigest()
    return content


def timed(work: Callable[[], object]) -> tuple[float, object]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def measure(store: ObjectStore, folder: Path, *, size: int, rounds: int) -> dict[str, Any]:
    bare = boto3.client(
        "s3", endpoint_url=store.endpoint, region_name="us-east-1", config=Config(signature_version="s3v4")
    )
    seconds: dict[str, list[float]] = {name: [] for name in ("push", "bare push", "pull", "bare pull")}
    memory: list[int] = []
    with DistsqlOnStore(folder / "off", store, redirect="off") as server:
        pull(server.port, push(server.port, make_content(MIB)))  # what is loaded at first use is loaded
        for number in range(rounds + 1):  # the first one warms up
            content = make_content(size)
            key = f"bare/{number}"
            before = server.memory().own
            server.reset_peak()
            ways: dict[str, Callable[[], object]] = {
                "push": lambda content=content: push(server.port, content),  # type: ignore[misc]
                "bare push": lambda content=content, key=key: bare.upload_fileobj(io.BytesIO(content), BUCKET, key),  # type: ignore[misc]
            }
            order = list(ways) if number % 2 else list(reversed(ways))
            found = {name: timed(ways[name]) for name in order}
            path = str(found["push"][1])
            grown = server.memory().own_peak - before
            ways = {
                "pull": lambda path=path: pull(server.port, path),  # type: ignore[misc]
                "bare pull": lambda key=key: bare.download_fileobj(BUCKET, key, Sink()),  # type: ignore[misc]
            }
            found |= {name: timed(ways[name]) for name in (list(ways) if number % 2 else list(reversed(ways)))}
            bare.delete_object(Bucket=BUCKET, Key=key)
            DIGESTS.clear()
            if number:
                memory.append(grown)
                for name, (taken, _) in found.items():
                    seconds[name].append(taken)
    with DistsqlOnStore(folder / "on", store, redirect="on") as server:
        path = push(server.port, make_content(size))
        cpu = server.cpu()
        sent = pull(server.port, path)
        redirected = {"bytes from the registry": sent, "CPU ms of the registry": round(1000 * (server.cpu() - cpu), 1)}
    ratios = {
        name: [one / ours for one, ours in zip(seconds[f"bare {name}"], seconds[name], strict=True)]
        for name in ("push", "pull")
    }
    return {
        "size": size,
        "seconds": {name: [round(each, 3) for each in taken] for name, taken in seconds.items()},
        "ratios": {name: [round(each, 3) for each in found] for name, found in ratios.items()},
        "memory": memory,
        "redirected": redirected,
    }


def print_result(found: dict[str, Any]) -> None:
    table = Table("what", "median", "min - max", "bar", title=f"{found['size'] // MIB} MiB, bare library = 1")
    for name, ratios in found["ratios"].items():
        table.add_row(
            f"{name}, bytes a second", f"{median(ratios):.2f}", f"{min(ratios):.2f} - {max(ratios):.2f}", f"{BAR}"
        )
    memory = [each / MIB for each in found["memory"]]
    table.add_row(
        "memory of an upload, MiB", f"{median(memory):.0f}", f"{min(memory):.0f} - {max(memory):.0f}",
        f"{MEMORY_BAR // MIB}",
    )  # fmt: skip
    for what, value in found["redirected"].items():
        table.add_row(f"redirected pull, {what}", str(value), "", "0" if "bytes" in what else "")
    Console().print(table)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.object_store", description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="size of the blob")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds, after a warm-up")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    with make_folder() as folder, running_store() as store:
        found = measure(store, folder, size=chosen.mib * MIB, rounds=chosen.rounds)
    if chosen.json:
        chosen.json.write_text(json.dumps(found))
    print_result(found)


if __name__ == "__main__":
    main()
