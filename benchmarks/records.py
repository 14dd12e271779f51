"""`python -m benchmarks.records`: what audit, events and the counting of pulls cost a push and a pull.

The same requests to two applications over one catalogue, in turn: one that writes the audit, counts pulls, and seals;
and one that does nothing of that. Both count metrics. CPU time of our own process and of PostgreSQL's, what is done
afterwards in the background included, as in benchmarks/isolation.py. With `--webhook` each push is delivered too, one
by one, for they are all of one repository: the dearest case there is.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import make_folder
from benchmarks.costs import postgres_cpu
from distsql.api.application import Application
from distsql.api.metrics import Metrics
from distsql.api.requests import Limits
from distsql.app import Registry, create_scrapes
from distsql.embedded import PrivatePostgres
from distsql.oci.digest import Digest
from distsql.registry.audit_seals import AuditSeals
from distsql.registry.webhooks import Deliverer, Webhooks
from distsql.settings import Settings
from distsql.sql import audit, schema
from distsql.values import ASGIMessage, Caller

AT_ONCE: Final = 16
LAYERS: Final = 3
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


async def _pull(application: Application) -> None:
    await _ask(application, "GET", "/v2/acme/web/manifests/latest")


async def _push(application: Application) -> None:
    await _ask(application, "PUT", f"/v2/acme/web/manifests/v{next(_numbers) % 1000}", _manifest())


OPERATIONS: Final = {"pull": _pull, "push": _push}
# What is done in the background is done once in a round: pulls are quicker, and written every five seconds.
_MANY: Final = {"pull": 5, "push": 1}


class _Written:
    """What `insert_audit_events` is when nothing is written."""

    def __call__(self, *arguments: object, **more: object) -> None:
        del arguments, more


@contextmanager
def _without_audit() -> Iterator[None]:
    kept = audit.insert_audit_events
    audit.insert_audit_events = _Written()
    try:
        yield
    finally:
        audit.insert_audit_events = kept


async def _take(url: str, headers: Mapping[str, str], body: bytes) -> int:
    del url, headers, body
    return 204


class _Background:
    """What a server does by itself, done at the end of a round for all of it: nothing is left to the next one."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._seals = AuditSeals(registry.backend.everything)
        self._deliverer = Deliverer(registry.backend.everything, _take)

    async def catch_up(self) -> None:
        await self._registry.pulls.flush()
        await self._registry.incidents.flush()
        await self._seals.seal()
        await self._deliverer.run()


async def _measure(
    application: Application, operation: str, folder: Path, *, requests: int, background: _Background | None
) -> Cost:
    postgres, own = postgres_cpu(folder), time.process_time()  # looking at PostgreSQL's takes some of our own

    async def ask() -> None:
        for _ in range(requests // AT_ONCE):
            await OPERATIONS[operation](application)

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    if background is not None:
        await background.catch_up()
    spent = time.process_time() - own, postgres_cpu(folder) - postgres
    return Cost(*(each * 1000 / requests for each in spent))


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
) -> dict[tuple[str, str], list[Cost]]:
    """The rounds' costs by operation and variant, in turn, after one to warm up."""
    measured: dict[tuple[str, str], list[Cost]] = {}
    async with _opened(url, folder, webhook=webhook) as (on, off, background):
        for number in range(rounds + 1):
            for operation in operations:
                many = requests * _MANY[operation]
                with_all = await _measure(on, operation, folder, requests=many, background=background)
                with _without_audit():
                    without = await _measure(off, operation, folder, requests=many, background=None)
                if number:
                    measured.setdefault((operation, "on"), []).append(with_all)
                    measured.setdefault((operation, "off"), []).append(without)
    return measured


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
