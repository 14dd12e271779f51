"""Several servers on one catalogue and one store: each goes on where another one stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.app import Registry
from distsql.settings import Settings
from tests.server.pushes import content, digest_of

SERVERS = 3


@pytest.fixture(params=["filesystem", pytest.param("s3", marks=pytest.mark.slow)])
async def servers(
    settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of three, which share nothing but what is outside of them."""
    storage = (tmp_path / "bytes").as_uri()
    if request.param == "s3":
        storage = request.getfixturevalue("object_store").url()
    async with AsyncExitStack() as stack:
        clients = []
        for number in range(SERVERS):
            registry = await stack.enter_async_context(Registry(replace(settings, storage=storage, redirect=False)))
            transport = httpx.ASGITransport(app=Application(registry, limits=Limits(), access_log=None))
            client = httpx.AsyncClient(transport=transport, base_url=f"http://server-{number}.test", timeout=30)
            clients.append(await stack.enter_async_context(client))
        yield clients


async def begin(client: httpx.AsyncClient) -> str:
    answer = await client.post("/v2/acme/web/blobs/uploads/")
    assert answer.status_code == 202, answer.text
    return httpx.URL(answer.headers["location"]).path


async def test_an_upload_is_begun_here_continued_there_and_finished_elsewhere(servers: list[httpx.AsyncClient]) -> None:
    """Several at a time, in pieces of odd sizes, each piece to another server."""

    async def push(number: int) -> bytes:
        data = content(f"upload/{number}", 300_000 + 7 * number)
        session, position = await begin(servers[number % SERVERS]), 0
        for piece, size in enumerate((1, 99_999, 65_537, 4_096)):
            client = servers[(number + piece + 1) % SERVERS]
            answer = await client.patch(session, content=data[position : position + size])
            position += size
            assert (answer.status_code, answer.headers["range"]) == (202, f"0-{position - 1}")
        told = await servers[(number + 1) % SERVERS].get(session)
        assert told.headers["range"] == f"0-{position - 1}"
        last = servers[(number + 2) % SERVERS]
        done = await last.put(session, params={"digest": digest_of(data)}, content=data[position:])
        assert done.status_code == 201, done.text
        return data

    for data in await asyncio.gather(*map(push, range(4))):
        for client in servers:
            assert (await client.get(f"/v2/acme/web/blobs/{digest_of(data)}")).content == data


async def test_of_patches_to_several_servers_at_once_one_is_taken(servers: list[httpx.AsyncClient]) -> None:
    """Never two, never a mixture; the losers are told, and where the upload stands."""
    data = content("race", 240_000)
    session = await begin(servers[0])
    for start in range(0, 240_000, 80_000):
        piece = data[start : start + 80_000]
        headers = {"content-range": f"{start}-{start + 79_999}"}
        answers = await asyncio.gather(*(each.patch(session, content=piece, headers=headers) for each in servers))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses.count(202) == 1, statuses
        assert set(statuses) <= {202, 409, 416}
        for client in servers:
            assert (await client.get(session)).headers["range"] == f"0-{start + 79_999}"
    finished = await asyncio.gather(*(each.put(session, params={"digest": digest_of(data)}) for each in servers))
    assert 201 in {answer.status_code for answer in finished}
    assert {answer.status_code for answer in finished} <= {201, 404, 409, 416}
    assert (await servers[1].get(f"/v2/acme/web/blobs/{digest_of(data)}")).content == data
