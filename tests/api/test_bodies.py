"""PROTOCOL 2.13: bodies that are cut, endless, late, or not asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

import httpx
import pytest

from distsql.api.application import Application
from tests.api.contents import ABSENT, CONFIG, OCI_IMAGE, begin_upload, digest_of, image, push_blob
from tests.api.exchange import Body, Exchange, cut, exchange, held, silent, truncated, whole

CONTENT = b"0123456789" * 100_000
HALF = len(CONTENT) // 2
UPLOADS = "/v2/acme/web/blobs/uploads/"
LENGTH = {"content-length": str(len(CONTENT))}
CHUNKED = {"transfer-encoding": "chunked"}
CHUNK = {**LENGTH, "content-range": f"0-{len(CONTENT) - 1}"}


@pytest.mark.parametrize(
    ("headers", "make_body"),
    [(LENGTH, cut), (LENGTH, truncated), (CHUNKED, cut), (CHUNK, cut), (CHUNK, truncated)],
    ids=["length, cut", "length, truncated", "chunked, cut", "chunk, cut", "chunk, truncated"],
)
async def test_a_body_that_is_cut_short_is_not_a_finished_one(
    client: httpx.AsyncClient, raw: Exchange, headers: dict[str, str], make_body: Callable[..., Body]
) -> None:
    """2.13 no blob, even if the digest is that of what came; the session goes on from the true offset."""
    came = digest_of(CONTENT[:HALF])
    whole_post = await raw("POST", f"{UPLOADS}?digest={came}", headers=headers, body=make_body(CONTENT[:HALF]))
    assert (whole_post.status, whole_post.codes) == (400, ["SIZE_INVALID"])
    for method in ("PATCH", "PUT"):
        location = await begin_upload(client, "acme/web")
        answer = await raw(method, f"{location}?digest={came}", headers=headers, body=make_body(CONTENT[:HALF]))
        assert (answer.status, answer.codes) == (400, ["SIZE_INVALID"])
        assert (await client.get(location)).headers["range"] == f"0-{HALF - 1}"
        assert (await client.head(f"/v2/acme/web/blobs/{came}")).status_code == 404
        params = {"digest": digest_of(CONTENT + method.encode())}
        rest = CONTENT[HALF:] + method.encode()
        place = {"content-range": f"{HALF}-{HALF + len(rest) - 1}"}
        assert (await client.put(location, params=params, content=rest, headers=place)).status_code == 201


async def test_a_chunk_that_is_longer_than_it_says_is_refused(client: httpx.AsyncClient, raw: Exchange) -> None:
    """2.13 streamed, where only Content-Range tells the length: the excess never gets in."""
    location = await begin_upload(client, "acme/web")
    headers = {**CHUNKED, "content-range": "0-9"}
    answer = await raw("PATCH", location, headers=headers, body=whole(b"0123", b"456789", b"more"))
    assert (answer.status, answer.codes) == (400, ["SIZE_INVALID"])
    assert (await client.get(location)).headers["range"] == "0-9"


async def test_a_manifest_that_is_cut_short_is_not_stored(client: httpx.AsyncClient, raw: Exchange) -> None:
    """2.13 even where what came is a manifest, and has the digest."""
    await push_blob(client, "acme/web", CONFIG)
    payload = image()
    for reference in ("v1", digest_of(payload)):
        url = f"/v2/acme/web/manifests/{reference}"
        for headers in ({"content-length": str(len(payload) + 1)}, CHUNKED):
            answer = await raw("PUT", url, headers={**headers, "content-type": OCI_IMAGE}, body=cut(payload))
            assert (answer.status, answer.codes) == (400, ["SIZE_INVALID"])
        assert (await client.head(url)).status_code == 404


async def test_a_client_that_stops_sending_is_given_up(client: httpx.AsyncClient, impatient: Application) -> None:
    """2.13, hazard: a client that stops mid-body gets 408; its session stands where the bytes ended."""
    raw = partial(exchange, impatient)
    for headers in (LENGTH, CHUNKED):
        location = await begin_upload(client, "acme/web")
        answer = await raw("PATCH", location, headers=headers, body=silent(CONTENT[:HALF]))
        assert (answer.status, answer.codes) == (408, ["SIZE_INVALID"])
        assert (await client.get(location)).headers["range"] == f"0-{HALF - 1}"
        answer = await raw("PUT", f"{location}?digest={digest_of(CONTENT)}", headers=headers, body=silent())
        assert answer.status == 408
        answer = await raw("PUT", "/v2/acme/web/manifests/v1", headers=headers, body=silent(b"{"))
        assert answer.status == 408
        finish = await client.put(location, params={"digest": digest_of(CONTENT)}, content=CONTENT[HALF:])
        assert finish.status_code == 201


REFUSED = [
    ("PUT", "/v2/acme/web/manifests/sha256:short"),
    ("PUT", "/v2/NOT/manifests/v1"),
    ("PATCH", UPLOADS + "nothing"),
    ("POST", UPLOADS + "?digest=sha256:short"),
    ("POST", f"/v2/acme/web/blobs/{ABSENT}"),
    ("PUT", "/nowhere"),
    ("GET", "/v2/acme/web/tags/list"),
]


async def test_an_error_is_heard_by_a_client_that_still_sends(raw: Exchange) -> None:
    """2.13 what is left of the body is read and forgotten before the answer."""
    for method, url in REFUSED:
        answer = await raw(method, url, headers=LENGTH, body=whole(*[b"x" * 1000] * 50))
        assert answer.status in {400, 404, 405}
        assert answer.received == 51, (method, url)


async def test_nobody_has_to_be_heard_out_for_ever(impatient: Application) -> None:
    """Hazard, denial of service: a body of a refused request is read up to 64 MiB, and for as long as a timeout."""
    megabyte = b"x" * 1024**2

    async def endless() -> Body:
        while True:
            yield {"type": "http.request", "body": megabyte, "more_body": True}

    async def dripping() -> Body:
        while True:
            await asyncio.sleep(0.01)
            yield {"type": "http.request", "body": b"x", "more_body": True}

    for body in (endless(), dripping(), silent()):
        started = time.monotonic()
        answer = await exchange(impatient, "PUT", "/v2/acme/web/manifests/sha256:x", headers=CHUNKED, body=body)
        assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
        assert answer.received <= 65
        assert time.monotonic() - started < 5


async def test_a_client_that_expects_to_be_asked_for_the_body_is_not_asked_in_vain(
    client: httpx.AsyncClient, raw: Exchange
) -> None:
    """2.13 Expect: 100-continue: the web server sends it when the body is first read, so an error comes without."""
    for method, url in REFUSED:
        answer = await raw(method, url, headers={**LENGTH, "expect": "100-continue"}, body=whole(CONTENT))
        assert (answer.received, answer.status // 100) == (0, 4)
    location = await begin_upload(client, "acme/web")
    closing = f"{location}?digest={digest_of(CONTENT)}"
    answer = await raw("PUT", closing, headers={**LENGTH, "expect": "100-continue"}, body=whole(CONTENT))
    assert answer.status == 201


async def test_a_request_without_a_body_is_not_asked_for_one(client: httpx.AsyncClient, raw: Exchange) -> None:
    """1.1 reading is the hot path: it waits for nothing."""
    digest = await push_blob(client, "acme/web", b"content")
    for method, url in (
        ("GET", f"/v2/acme/web/blobs/{digest}"),
        ("HEAD", "/v2/acme/web/manifests/v1"),
        ("GET", "/v2/"),
    ):
        assert (await raw(method, url)).received == 0


async def test_a_large_body_is_stored_while_it_arrives(client: httpx.AsyncClient, raw: Exchange) -> None:
    """2.7 another request sees the session at the length that is durable, and the end of the stream at once."""
    location = await begin_upload(client, "acme/web")
    gate = asyncio.Event()
    body = held(CONTENT[:HALF], until=gate.wait(), then=[CONTENT[HALF:]])
    sending = asyncio.create_task(raw("PATCH", location, headers=CHUNKED, body=body))
    await asyncio.sleep(0)
    assert (await client.get(location)).headers["range"] == "0-0"
    gate.set()
    answer = await sending
    assert (answer.status, answer.headers["range"]) == (202, f"0-{len(CONTENT) - 1}")
