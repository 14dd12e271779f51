"""What clients hear when the object store fails, and that their uploads go on where they stood."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from distsql.app import Registry
from distsql.bytestore.s3_address import parse_address
from distsql.bytestore.s3_client import S3Client
from distsql.registry.verification import Verifier
from distsql.settings import Settings
from tests.faultyproxy import FaultyProxy, one_in
from tests.objectstore import ObjectStore
from tests.registry.soundness import findings


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


async def test_one_request_in_ten_fails_and_clients_notice_nothing(
    client: httpx.AsyncClient, proxy: FaultyProxy
) -> None:
    proxy.fault = one_in(10)
    for length in (10, 300_000, 9_000_000):
        content = os.urandom(length)
        location = (await client.post("/v2/acme/web/blobs/uploads/")).headers["location"]
        assert (await client.patch(location, content=content[: length // 2])).status_code == 202
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        done = await client.put(location, params={"digest": digest}, content=content[length // 2 :])
        assert done.status_code == 201, done.text
        assert (await client.get(done.headers["location"])).content == content
    assert proxy.requests > 20


@pytest.mark.parametrize("ends", ["away", "silent"])
async def test_store_that_dies_in_the_middle_of_an_upload(
    client: httpx.AsyncClient, proxy: FaultyProxy, ends: str
) -> None:
    """It is 503 while it lasts, the session stands where it was acknowledged, and goes on from there."""
    location = (await client.post("/v2/acme/web/blobs/uploads/")).headers["location"]
    first, rest = os.urandom(1000), os.urandom(9_000_000)
    assert (await client.patch(location, content=first)).status_code == 202

    async def body() -> AsyncIterator[bytes]:
        yield rest[:8_500_000]
        setattr(proxy, ends, True)
        if ends == "away":
            proxy.break_off()
        yield rest[8_500_000:]

    answer = await client.patch(location, content=body())
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    proxy.reset()
    proxy.break_off()
    assert (await client.get(location)).headers["range"] == "0-999"
    digest = f"sha256:{hashlib.sha256(first + rest).hexdigest()}"
    done = await client.put(location, params={"digest": digest}, content=rest)
    assert done.status_code == 201, done.text
    assert (await client.get(done.headers["location"])).content == first + rest


async def test_object_that_was_changed_behind_our_back_is_named_and_healed_by_a_push(
    client: httpx.AsyncClient,
    registry: Registry,
    object_store: ObjectStore,
    sql: psycopg.Connection[tuple[object, ...]],
) -> None:
    content = os.urandom(5000)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = "/v2/acme/web/blobs/uploads/"
    assert (await client.post(path, params={"digest": digest}, content=content)).status_code == 201
    [(key,)] = sql.execute("select store_key from blobs").fetchall()
    behind = S3Client(parse_address(urlsplit(registry.backend.store.url)))
    await behind.open()
    await behind.put(str(key), content[:-1] + bytes([content[-1] ^ 1]))
    await behind.close()
    verifier = Verifier(
        registry.backend, read_bytes=True, grace=timedelta(hours=1), notify=lambda what, count: None, repair=True
    )
    found = [finding async for finding in verifier.findings()]
    assert [(finding.kind, digest in finding.subject) for finding in found] == [("content", True)]
    # From now on nobody is given it, and clients that ask before they push do push.
    assert (await client.head(f"/v2/acme/web/blobs/{digest}")).status_code == 404
    assert (await client.post(path, params={"digest": digest}, content=content)).status_code == 201
    assert (await client.get(f"/v2/acme/web/blobs/{digest}")).content == content
    assert [finding for finding in await findings(registry.backend) if "orphan" not in finding] == []
