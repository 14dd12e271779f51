"""What clients hear when the object store fails, and that their uploads go on where they stood."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator

import httpx
import pytest

from distsql.settings import Settings
from tests.faultyproxy import FaultyProxy, faulty_proxy
from tests.objectstore import ObjectStore


@pytest.fixture
async def proxy(object_store: ObjectStore) -> AsyncIterator[FaultyProxy]:
    async with faulty_proxy(object_store.endpoint) as proxy:
        yield proxy


@pytest.fixture
def settings(database_url: str, object_store: ObjectStore, proxy: FaultyProxy) -> Settings:
    storage = object_store.url(endpoint=proxy.endpoint) + "&timeout=1s"
    return Settings(database_url=database_url, storage=storage, access_log=False, redirect=False)


@pytest.mark.parametrize(("fault", "status"), [((403, "AccessDenied"), 503), ((507, "InsufficientStorage"), 507)])
async def test_faults_are_told_with_retry_after_and_uploads_go_on(
    client: httpx.AsyncClient, proxy: FaultyProxy, fault: tuple[int, str], status: int
) -> None:
    location = (await client.post("/v2/acme/web/blobs/uploads/")).headers["location"]
    first, rest = os.urandom(1000), os.urandom(100_000)
    assert (await client.patch(location, content=first)).status_code == 202
    proxy.fault = lambda _head: fault
    answer = await client.patch(location, content=rest)
    assert answer.status_code == status
    assert int(answer.headers["retry-after"]) > 0
    assert "s3:" not in answer.text  # what is wrong with the machinery is for its operator
    proxy.reset()
    assert (await client.get(location)).headers["range"] == "0-999"
    digest = f"sha256:{hashlib.sha256(first + rest).hexdigest()}"
    done = await client.put(location, params={"digest": digest}, content=rest)
    assert done.status_code == 201
    assert (await client.get(done.headers["location"])).content == first + rest


async def test_blob_whose_object_is_lost_is_a_clear_error(client: httpx.AsyncClient, proxy: FaultyProxy) -> None:
    digest = f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
    pushed = await client.post("/v2/acme/web/blobs/uploads/", params={"digest": digest}, content=b"abc")
    proxy.fault = lambda head: (404, "NoSuchKey") if head.startswith(b"GET") else None
    answer = await client.get(pushed.headers["location"])
    assert answer.status_code == 500
    assert "lost this content's bytes" in answer.json()["errors"][0]["message"]
    proxy.away = True
    answer = await client.get(pushed.headers["location"])
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
