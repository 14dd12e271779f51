"""`python -m benchmarks.records`: what audit, events and the counting of pulls cost a push and a pull.

The same requests to two applications over one catalogue, in turn: one that writes the audit, counts pulls, and seals;
and one that does nothing of that. Both count metrics. CPU time of our own process and of PostgreSQL's, what is done
afterwards in the background included, as in benchmarks/isolation.py. With `--webhook` each push is delivered too, one
by one, for they are all of one repository: the dearest case there is. With `--tags` so many different ones are pulled,
in no order, each of a manifest of its own.

Pulls are written down at the end of each round, and added up at the end of all: what that costs is shared among as many
as a server would answer until it adds up again.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import make_folder
from benchmarks.costs import postgres_cpu
from distsql.api.application import Application
from distsql.api.metrics import Metrics
from distsql.api.requests import Limits
from distsql.app import Registry, create_scrapes
from distsql.cli.workers import collect_seldom
from distsql.embedded import PrivatePostgres
from distsql.oci.digest import Digest
from distsql.registry.audit_seals import AuditSeals
from distsql.registry.pulls import add_up, rest_after
from distsql.registry.webhooks import Deliverer, Webhooks
from distsql.settings import Settings
from distsql.sql import audit, schema
from distsql.values import ASGIMessage, Caller

AT_ONCE: Final = 16
LAYERS: Final = 3
SLICES: Final = 10
_CONFIG: Final = b'{"architecture":"amd64","os":"linux"}'
_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
_numbers = itertools.count()


class Cost(NamedTuple):
    """Milliseconds of CPU for each request, in our process and in PostgreSQL's."""

    own: float
    postgres: float

    @property
    def together(self) -> float:
        return self.own + self.postgres


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}


def _manifest() -> bytes:
    layers = [_descriptor("application/vnd.oci.image.layer.v1.tar", b"%d" % layer) for layer in range(LAYERS)]
    document = {"schemaVersion": 2, "mediaType": _IMAGE, "layers": layers, "annotations": {"n": str(next(_numbers))}}
    document["config"] = _descriptor("application/vnd.oci.image.config.v1+json", _CONFIG)
    return json.dumps(document).encode()


async def _ask(application: Application, method: str, path: str, body: bytes = b"") -> None:
    status = 0

    async def receive() -> ASGIMessage:
        return {"type": "http.request", "body": body}

    async def send(message: ASGIMessage) -> None:
        nonlocal status
        status = message.get("status", status)

    headers = [(b"host", b"registry.test"), (b"user-agent", b"benchmark/1")]
    if body:
        headers += [(b"content-type", _IMAGE.encode()), (b"content-length", b"%d" % len(body))]
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("192.0.2.1", 1),
    }
    await application(scope, receive, send)
    if not 200 <= status < 300:
        raise AssertionError(f"{method} {path} was answered {status}")


_PULLED: Final = ["latest"]


async def _pull(application: Application) -> None:
    await _ask(application, "GET", f"/v2/acme/web/manifests/{random.choice(_PULLED)}")  # no secret


async def _push(application: Application) -> None:
    await _ask(application, "PUT", f"/v2/acme/web/manifests/v{next(_numbers) % 1000}", _manifest())


OPERATIONS: Final = {"pull": _pull, "push": _push}
# What is done in the background is done once in a round: pulls are quicker, and written every five seconds.
_MANY: Final = {"pull": 5, "push": 1}


class _Written:
    """What `insert_events` is when nothing is written."""

    def __call__(self, *arguments: object, **more: object) -> None:
        del arguments, more


@contextmanager
def _without_audit() -> Iterator[None]:
    kept = audit.insert_events
    audit.insert_events = _Written()
    try:
        yield
    finally:
        audit.insert_events = kept


async def _take(url: str, headers: Mapping[str, str], body: bytes) -> int:
    del url, headers, body
    return 204


class _Background:
    """What a server does by itself, done at the end of a round for all of it: nothing is left to the next one."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._seals = AuditSeals(registry.backend.everything)
        self._deliverer = Deliverer(registry.backend.everything, _take)

    async def catch_up(self) -> None:
        await self.registry.pulls.flush()
        await self.registry.incidents.flush()
        await self._seals.seal()
        await self._deliverer.run()

    async def add_up(self, folder: Path, *, pull: Cost) -> Cost:
        """What adding up costs each pull, in ms: a server does nothing but pulls of that cost until it is due again."""
        postgres, own, started = postgres_cpu(folder), time.process_time(), time.monotonic()
        await add_up(self.registry.backend.everything)
        own, took = time.process_time() - own, time.monotonic() - started
        pulls = rest_after(took).total_seconds() * 1000 / pull.together
        return Cost(*(each * 1000 / pulls for each in (own, postgres_cpu(folder) - postgres)))


async def _measure(application: Application, operation: str, folder: Path, *, requests: int) -> Cost:
    """The CPU seconds of so many requests."""
    postgres, own = postgres_cpu(folder), time.process_time()  # looking at PostgreSQL's takes some of our own

    async def ask() -> None:
        for _ in range(requests // AT_ONCE):
            await OPERATIONS[operation](application)

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    own = time.process_time() - own
    return Cost(own, postgres_cpu(folder) - postgres)


async def _measure_round(
    on: Application, off: Application, background: _Background, operation: str, folder: Path, *, requests: int
) -> tuple[Cost, Cost]:
    """Both in turn, some requests each: a machine's speed changes from second to second."""
    with_all, without = [], []
    slices = max(1, min(SLICES, requests // AT_ONCE))
    each = requests // slices // AT_ONCE * AT_ONCE
    for _ in range(slices):
        with_all.append(await _measure(on, operation, folder, requests=each))
        with _without_audit():
            without.append(await _measure(off, operation, folder, requests=each))
    postgres, own = postgres_cpu(folder), time.process_time()
    await background.catch_up()
    own = time.process_time() - own
    with_all.append(Cost(own, postgres_cpu(folder) - postgres))
    asked = slices * each
    return _mean(with_all, asked), _mean(without, asked)


def _mean(costs: Sequence[Cost], requests: int) -> Cost:
    return Cost(*(sum(each) * 1000 / requests for each in zip(*costs, strict=True)))


@asynccontextmanager
async def _opened(
    url: str, folder: Path, *, webhook: bool
) -> AsyncIterator[tuple[Application, Application, _Background]]:
    """With everything and without, over the same connections' worth of catalogue each."""
    settings = Settings(database_url=url, storage=(folder / "bytes").as_uri(), access_log=False)
    metrics = Metrics()
    async with (
        Registry(settings, observe=metrics.add_statement) as counting,
        Registry(settings, observe=metrics.add_statement) as plain,
    ):
        scrapes = create_scrapes(counting, settings, metrics, folder=None)
        on = Application(
            counting,
            limits=Limits(),
            access_log=None,
            pulls=counting.pulls,
            scrapes=scrapes,
            incidents=counting.incidents,
        )
        web = plain.namespace.repository("acme/web")
        for content in (_CONFIG, *(b"%d" % layer for layer in range(LAYERS))):
            async with await web.layers.upload() as upload:
                await upload.write(content)
                await upload.finish(Digest.of(content))
        await _ask(on, "PUT", "/v2/acme/web/manifests/latest", _manifest())
        if webhook:
            hooks = Webhooks(plain.backend.everything, Caller("benchmark"))
            await hooks.add("acme", "http://hooks.test/", format="cloudevents", events=["push"])
        yield on, Application(plain, limits=Limits(), access_log=None, scrapes=scrapes), _Background(counting)


async def measure(
    url: str,
    folder: Path,
    *,
    rounds: int,
    requests: int,
    webhook: bool = False,
    operations: Sequence[str] = tuple(OPERATIONS),
    tags: int = 1,
) -> dict[tuple[str, str], list[Cost]]:
    """The rounds' costs by operation and variant, in turn, after one to warm up."""
    measured: dict[tuple[str, str], list[Cost]] = {}
    async with _opened(url, folder, webhook=webhook) as (on, off, background):
        _PULLED[:] = ["latest"]
        if tags > 1:
            await asyncio.to_thread(fill, url, tags)
        collect_seldom()  # as a server's workers do
        for number in range(rounds + 1):
            for operation in operations:
                many = requests * _MANY[operation]
                with_all, without = await _measure_round(on, off, background, operation, folder, requests=many)
                if not number:
                    await add_up(background.registry.backend.everything)  # rows that are new cost more
                if number:
                    measured.setdefault((operation, "on"), []).append(with_all)
                    measured.setdefault((operation, "off"), []).append(without)
        if "pull" in operations:
            costs = measured["pull", "on"]
            share = await background.add_up(folder, pull=costs[-1])
            costs[:] = [Cost(each.own + share.own, each.postgres + share.postgres) for each in costs]
    return measured


_FILL: Final = """
with made as (
    select r.tenant_id, r.id, n, m.media_type, m.config_media_type, m.artifact_type,
        convert_to(replace(convert_from(m.payload, 'UTF8'), '"n": ', '"of": "' || n || '", "n": '), 'UTF8') as payload
    from manifests m join repositories r on r.tenant_id = m.tenant_id and r.id = m.repository_id
    cross join generate_series(1, %s) n
), inserted as (
    insert into manifests (
        tenant_id, repository_id, digest, media_type, config_media_type, artifact_type, length, payload, pushed_by
    )
    select tenant_id, id, '\\x01'::bytea || sha256(payload), media_type, config_media_type, artifact_type,
        length(payload), payload, 'benchmark'
    from made
)
insert into tags (tenant_id, repository_id, name, digest, actor)
select tenant_id, id, 't' || n, '\\x01'::bytea || sha256(payload), 'benchmark' from made
"""


def fill(url: str, tags: int) -> None:
    """So many more tags, each of a manifest of its own, of the repository's only image; they are pulled from now on."""
    with psycopg.connect(url) as sql:
        sql.execute(_FILL, [tags])
        _PULLED[:] = [f"t{number}" for number in range(1, tags + 1)]


@contextmanager
def catalogue(folder: Path) -> Iterator[str]:
    """The URL of a private PostgreSQL."""
    with PrivatePostgres(folder) as postgres:
        url = postgres.url(folder)
        schema.migrate(url)
        yield url


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2000, help="pushes of a round, and five times as many pulls")
    parser.add_argument("--webhook", action="store_true")
    parser.add_argument("--tags", type=int, default=1, help="different ones that are pulled")
    parser.add_argument("--only", choices=OPERATIONS, help="one of both")
    arguments = parser.parse_args()
    operations = (arguments.only,) if arguments.only else tuple(OPERATIONS)
    table = Table("operation", "variant", "server ms", "PostgreSQL ms", "together", "more (median of pairs; min - max)")
    with make_folder() as folder, catalogue(folder) as url:
        measured = asyncio.run(
            measure(
                url,
                folder,
                rounds=arguments.rounds,
                requests=arguments.requests,
                webhook=arguments.webhook,
                tags=arguments.tags,
                operations=operations,
            )
        )
    for operation in operations:
        on, off = measured[operation, "on"], measured[operation, "off"]
        more = sorted(mine.together / other.together - 1 for mine, other in zip(on, off, strict=True))
        for variant, costs in (("off", off), ("on", on)):
            figures = (median(cost.own for cost in costs), median(cost.postgres for cost in costs))
            told = f"{median(more):.1%} ({more[0]:.1%} - {more[-1]:.1%})" if variant == "on" else ""
            table.add_row(operation, variant, *(f"{each:.3f}" for each in figures), f"{sum(figures):.3f}", told)
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
