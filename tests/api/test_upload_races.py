"""PROTOCOL 2.8 and HAZARDS, "Races": several requests on one session, or for one blob."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
import pytest

from tests.api.contents import begin_upload, digest_of, push_image
from tests.api.exchange import Exchange, held

CHUNKED = {"transfer-encoding": "chunked"}


@pytest.mark.parametrize("ranged", [True, False], ids=["with Content-Range", "streams"])
async def test_of_two_patches_at_once_exactly_one_wins(client: httpx.AsyncClient, raw: Exchange, ranged: bool) -> None:
    """2.8, hazard Quay update_blob_upload: the other gets 409 or 416, and the content is the winner's."""
    location = await begin_upload(client, "acme/web")
    contents = [bytes([65 + which]) * 600_000 for which in range(4)]
    headers = {**CHUNKED, **({"content-range": "0-599999"} if ranged else {})}
    begun = asyncio.Barrier(len(contents))  # nobody goes on before everybody has begun
    bodies = [held(each[:1000], until=begun.wait(), then=[each[1000:]]) for each in contents]
    answers = await asyncio.gather(*(raw("PATCH", location, headers=headers, body=body) for body in bodies))
    winners = [each for each, answer in zip(contents, answers, strict=True) if answer.status == 202]
    assert len(winners) == 1, [(answer.status, answer.body) for answer in answers]
    assert {answer.status for answer in answers} <= {202, 409, 416}
    assert (await client.get(location)).headers["range"] == "0-599999"
    finished = await client.put(location, params={"digest": digest_of(winners[0])})
    assert finished.status_code == 201
    assert (await client.get(finished.headers["location"])).content == winners[0]


async def test_of_the_same_chunk_twice_one_is_taken(client: httpx.AsyncClient) -> None:
    """2.8 a client's retry that overtakes its first try."""
    location = await begin_upload(client, "acme/web")
    headers = {"content-range": "0-9"}
    answers = await asyncio.gather(*(client.patch(location, content=b"0123456789", headers=headers) for _ in range(5)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[202] == 1
    assert set(statuses) <= {202, 409, 416}
    finished = await client.put(location, params={"digest": digest_of(b"0123456789")})
    assert finished.status_code == 201


async def test_of_two_that_finish_a_session_one_is_told_so(client: httpx.AsyncClient) -> None:
    """2.2, 2.9 the others find it busy or gone; the blob is there."""
    location = await begin_upload(client, "acme/web")
    await client.patch(location, content=b"0123456789")
    params = {"digest": digest_of(b"0123456789")}
    answers = await asyncio.gather(*(client.put(location, params=params) for _ in range(5)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[201] == 1
    assert set(statuses) <= {201, 404, 409, 416}
    assert (await client.get(f"/v2/acme/web/blobs/{params['digest']}")).content == b"0123456789"


async def test_finishing_and_cancelling_at_once_has_one_outcome(client: httpx.AsyncClient) -> None:
    """2.10 either there is a blob, or there is none."""
    for number in range(5):
        content = b"content %d" % number
        location = await begin_upload(client, "acme/web")
        await client.patch(location, content=content)
        finished, cancelled = await asyncio.gather(
            client.put(location, params={"digest": digest_of(content)}), client.delete(location)
        )
        assert [finished.status_code, cancelled.status_code] in ([201, 404], [404, 204], [201, 409], [409, 204])
        there = (await client.get(f"/v2/acme/web/blobs/{digest_of(content)}")).status_code
        assert there == (200 if finished.status_code == 201 else 404)
        assert (await client.get(location)).status_code == 404


async def test_many_may_push_the_same_blob_at_once(client: httpx.AsyncClient) -> None:
    """2.2 each into a session of its own, in as many repositories: all succeed, and all can read it."""
    content = b"shared" * 20_000
    names = [f"acme/web{number % 3}" for number in range(6)]
    digest = digest_of(content)
    answers = await asyncio.gather(
        *(client.post(f"/v2/{name}/blobs/uploads/", params={"digest": digest}, content=content) for name in names)
    )
    assert {answer.status_code for answer in answers} == {201}
    for name in names:
        assert (await client.get(f"/v2/{name}/blobs/{digest}")).content == content


async def test_many_may_push_to_a_repository_that_doesnt_exist_yet(client: httpx.AsyncClient) -> None:
    """2.1 the first write makes it, whichever that is."""
    await asyncio.gather(*(push_image(client, "acme/new", b"layer %d" % number) for number in range(6)))
    assert (await client.get("/v2/_catalog")).json() == {"repositories": ["acme/new"]}
