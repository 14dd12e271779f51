"""What hot requests allocate in Python, through the whole application: counted, and so the same on any machine."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from statistics import median
from typing import Any, NamedTuple

import pytest

from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.app import Registry
from distsql.oci.digest import Digest
from distsql.values import ASGIMessage, Caller
from tests.registry.pushing import image, push_image

REQUESTS = 40
WARM_UP = 10
LAYER = b"a layer"
_numbers = count()


class Budget(NamedTuple):
    """Blocks that live for the request when its answer is sent, at most: its objects, all but those gone already."""

    method: str
    path: str
    blocks: int


BUDGETS = {
    "manifest GET by tag": Budget("GET", "manifests/latest", 60),
    "manifest GET by digest": Budget("GET", "manifests/{digest}", 60),
    "manifest HEAD by tag": Budget("HEAD", "manifests/latest", 60),
    "blob HEAD": Budget("HEAD", "blobs/{blob}", 60),
    "blob GET": Budget("GET", "blobs/{blob}", 60),
    "tags": Budget("GET", "tags/list?n=10", 60),
    "referrers": Budget("GET", "referrers/{digest}", 60),
    "manifest PUT": Budget("PUT", "manifests/latest", 60),
}
MOST_LEFT_BEHIND = 12
"""Blocks for each request that are still there after it: caches and statistics grow a little (each pull is remembered
until it is counted, in some five blocks), leaks don't stop."""


class Client:
    """Asks the application itself, and counts at the first message of the answer."""

    def __init__(self, application: Application, names: dict[str, str]) -> None:
        self._application = application
        self._names = names
        self.blocks: list[int] = []

    async def ask(self, budget: Budget) -> None:
        target, _, query = f"/v2/acme/web/{budget.path.format(**self._names)}".partition("?")
        body = image(LAYER, number=str(next(_numbers))).payload if budget.method == "PUT" else b""
        headers = [(b"host", b"registry.test"), (b"accept", b"*/*"), (b"content-length", b"%d" % len(body))]
        if body:
            headers.append((b"content-type", b"application/vnd.oci.image.manifest.v1+json"))
        scope = {
            "type": "http",
            "method": budget.method,
            "path": target,
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "headers": headers,
            "client": ("192.0.2.1", 1),
        }
        status = 0
        before = sys.getallocatedblocks()

        async def receive() -> ASGIMessage:
            return {"type": "http.request", "body": body}

        async def send(message: ASGIMessage) -> None:
            nonlocal status
            if "status" in message:
                self.blocks.append(sys.getallocatedblocks() - before)
                status = message["status"]

        await self._application(scope, receive, send)
        assert 200 <= status < 300, (budget, status)


@pytest.fixture
async def client(registry: Registry) -> Client:
    web = registry.namespace.acting_as(Caller(actor="tester")).repository("acme/web")
    manifest = await push_image(web, LAYER, tags=["latest", *(f"v{number}" for number in range(20))])
    names = {"digest": str(manifest.digest), "blob": str(Digest.of(LAYER))}
    return Client(Application(registry, limits=Limits(), access_log=None, pulls=registry.pulls), names)


@contextmanager
def without_collections() -> Iterator[None]:
    """Cycles stay until the end, which is only then the requests' doing."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def measure(client: Client, budget: Budget) -> tuple[float, float]:
    """Blocks of a request, as most of them have it, and those that are left behind."""
    for _ in range(WARM_UP):
        await client.ask(budget)
    client.blocks.clear()
    with without_collections():
        for _ in range(REQUESTS):
            await client.ask(budget)
        living = median(client.blocks)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(REQUESTS):
        await client.ask(budget)
    gc.collect()
    return living, (sys.getallocatedblocks() - before) / REQUESTS


async def test_hot_requests_allocate_little_and_leave_nothing(client: Client) -> None:
    found: dict[str, Any] = {name: await measure(client, budget) for name, budget in BUDGETS.items()}
    over = {
        name: figures
        for name, figures in found.items()
        if figures[0] > BUDGETS[name].blocks or figures[1] > MOST_LEFT_BEHIND
    }
    assert over == {}, found
