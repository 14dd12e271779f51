"""`python -m benchmarks.costs`: what single operations cost by themselves, against the figures that were promised.

CPU time and not the clock, so that a busy machine tells nearly the same: of our own process, and of PostgreSQL's
processes from /proc. Rows come from `generate_series`: pushing a million tags takes longer than it tells.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import make_folder
from benchmarks.processes import find_processes
from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.app import Registry
from distsql.embedded import PrivatePostgres
from distsql.oci.manifest import OCI_INDEX, parse
from distsql.settings import Settings
from distsql.sql import schema

MIB: Final = 1 << 20
REFERRERS: Final = 10_000
TAGS: Final = 1_000_000
ROUNDS: Final = 15
REQUESTS: Final = 100
SUBJECT: Final = f"sha256:{hashlib.sha256(b'subject').hexdigest()}"

_FILL: Final = """
set session_replication_role = replica;
create function pg_temp.digest(text) returns bytea language sql immutable
    return '\\x01'::bytea || sha256(convert_to($1, 'UTF8'));
insert into tenants (id, name) values (1, 'acme');
insert into repositories (tenant_id, id, path) values (1, 1, 'web');
insert into manifests
        (tenant_id, repository_id, digest, media_type, artifact_type, subject_digest, length, payload, pushed_by)
    select 1, 1, pg_temp.digest('manifest ' || n), 'application/vnd.oci.image.manifest.v1+json', 'text/x-' || n % 9,
        pg_temp.digest('subject'), 500, convert_to(repeat('x', 500), 'UTF8'), 'ann'
    from generate_series(1, {referrers}) n;
insert into descriptors
        (tenant_id, repository_id, manifest_digest, position, role, media_type, length, digest, required)
    select 1, 1, pg_temp.digest('manifest ' || n), 0, 'subject', 'text/plain', n, pg_temp.digest('subject'), false
    from generate_series(1, {referrers}) n;
insert into annotations (tenant_id, repository_id, manifest_digest, key, value)
    select 1, 1, pg_temp.digest('manifest ' || n), 'org.example.' || k, 'number ' || n
    from generate_series(1, {referrers}) n, generate_series(1, 2) k;
insert into tags (tenant_id, repository_id, name, digest, valid_from, actor)
    select 1, 1, 'v' || n, pg_temp.digest('manifest ' || 1 + n % {referrers}), now(), 'ann'
    from generate_series(1, {tags}) n;
vacuum analyze;
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of CPU. ``bar`` is what was promised, of both together."""

    name: str
    bar: float
    own: float
    postgres: float = 0
    note: str = ""


def make_index(length: int, **more: Any) -> bytes:
    """An index of about this many bytes, whose entries have these fields as well."""
    entries: list[dict[str, Any]] = []
    left = length - 200
    while left > 0:
        digest = hashlib.sha256(b"%d" % len(entries)).hexdigest()
        entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": f"sha256:{digest}", "size": 1234}
        entries.append({**entry, **more})
        left -= len(json.dumps(entries[-1], separators=(",", ":"))) + 1
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return json.dumps(document, separators=(",", ":")).encode()


_PLATFORM: Final = {"platform": {"architecture": "amd64", "os": "linux"}}
_NAMES: Final = {"org.opencontainers.image.ref.name": "1.2.3", "vnd.docker.reference.type": "attestation & <more>"}
# What each entry has as well. The last is a field that no specification names: it is read the strict way.
ENTRIES: Final[dict[str, dict[str, Any]]] = {
    "": {},
    ", platforms": _PLATFORM,
    ", annotations": _PLATFORM | {"annotations": _NAMES},
    ", unknown field": _PLATFORM | {"x": ""},
}


def measure_parsing(length: int) -> Iterator[Cost]:
    """The best of some rounds, for it is the one least disturbed; and what a plain JSON reader takes beside it."""
    for name, more in ENTRIES.items():
        payload = make_index(length, **more)
        times = _times(lambda payload=payload: parse(payload, OCI_INDEX))  # type: ignore[misc]
        plain = min(_times(lambda payload=payload: json.loads(payload)))  # type: ignore[misc]
        tracemalloc.start()
        parse(payload, OCI_INDEX)
        peak = tracemalloc.get_traced_memory()[1] / MIB
        tracemalloc.stop()
        note = f"median {median(times):.0f}; {peak:.0f} MiB; json.loads {plain:.0f} ms"
        yield Cost(f"parse {length // MIB} MiB index{name}", 100, min(times), note=note)


def _times(work: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        times.append((time.process_time() - started) * 1000)
    return times


PAGES: Final = {
    "referrers": (f"referrers/{SUBJECT}", 10),
    "referrers, deep": (f"referrers/{SUBJECT}?last=sha256:{'8' * 64}", 10),
    "referrers, filtered": (f"referrers/{SUBJECT}?artifactType=text/x-1", 10),
    "tags": ("tags/list", 5),
    "tags, deep": ("tags/list?last=v5", 5),
    "tags, n=100": ("tags/list?n=100", 5),
}


async def measure_pages(url: str, folder: Path) -> list[Cost]:
    """A page of each listing, asked for by one client: what the server and PostgreSQL take for it on average."""
    settings = Settings(database_url=url, storage=(folder / "bytes").as_uri(), access_log=False)
    async with Registry(settings) as registry:
        application = Application(registry, limits=Limits(), access_log=None)
        return [await _measure_page(application, folder, name, path, bar) for name, (path, bar) in PAGES.items()]


async def _measure_page(application: Application, folder: Path, name: str, path: str, bar: float) -> Cost:
    body = await _ask(application, path)
    rounds = []
    for _ in range(3):
        own, postgres = time.process_time(), postgres_cpu(folder)
        for _ in range(REQUESTS):
            await _ask(application, path)
        rounds.append((time.process_time() - own, postgres_cpu(folder) - postgres))
    own, postgres = (median(each) * 1000 / REQUESTS for each in zip(*rounds, strict=True))
    return Cost(f"page of {name}", bar, own, postgres, f"{len(body) / 1024:.0f} KiB")


async def _ask(application: Application, path: str) -> bytes:
    target, _, query = f"/v2/acme/web/{path}".partition("?")
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": target,
        "raw_path": target.encode(),
        "query_string": query.encode(),
        "headers": [],
    }
    await application(scope, receive, send)
    if sent[0]["status"] != 200:  # a benchmark of errors measures nothing
        raise SystemExit(f"{path}: {sent}")
    return b"".join(message.get("body", b"") for message in sent[1:])


def postgres_cpu(folder: Path) -> float:
    return sum(process.cpu for process in find_processes(-1, folder) if process.is_postgres)


@contextmanager
def filled_catalogue(folder: Path, *, referrers: int, tags: int) -> Iterator[str]:
    """The URL of a private PostgreSQL with a subject of many referrers and a repository of many tags."""
    with PrivatePostgres(folder) as postgres:
        url = postgres.url(folder)
        schema.migrate(url)
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in _FILL.format(referrers=referrers, tags=tags).split(";\n"):
                connection.execute(statement.encode())
        yield url


def measure(*, referrers: int = REFERRERS, tags: int = TAGS, length: int = 4 * MIB) -> list[Cost]:
    """Everything, in a folder of its own that goes with it."""
    costs = list(measure_parsing(length))
    with make_folder() as folder, filled_catalogue(folder, referrers=referrers, tags=tags) as url:
        return costs + asyncio.run(measure_pages(url, folder))


def main() -> int:
    table = Table("operation", "promised ms", "server ms", "PostgreSQL ms", "together", "")
    for cost in measure():
        figures = (f"{each:.1f}" for each in (cost.bar, cost.own, cost.postgres, cost.own + cost.postgres))
        table.add_row(cost.name, *figures, cost.note)
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
