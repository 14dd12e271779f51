"""PROTOCOL, "Push a blob": sessions."""

from __future__ import annotations

from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from distsql.bytestore.filesystem import FilesystemStore
from tests.api.contents import ABSENT, begin_upload, digest_of, errors, in_pieces, push_blob

CONTENT = b"0123456789" * 1000
UPLOADS = "/v2/acme/web/blobs/uploads/"


def chunk(first: int, last: int) -> dict[str, str]:
    return {"content-range": f"{first}-{last}"}


async def assert_stands_at(client: httpx.AsyncClient, location: str, offset: int) -> None:
    answer = await client.get(location)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["range"] == f"0-{max(offset - 1, 0)}"
    assert answer.headers["location"] == location


async def assert_nothing_was_stored(client: httpx.AsyncClient, digest: str) -> None:
    assert (await client.head(f"/v2/acme/web/blobs/{digest}")).status_code == 404


async def test_a_session_begins_with_an_address_of_its_own(client: httpx.AsyncClient) -> None:
    """2.1 202, Location, Docker-Upload-UUID, Range; with or without the trailing slash. 2.6: chunks of any size."""
    seen = set()
    for url in (UPLOADS, UPLOADS.rstrip("/")):
        answer = await client.post(url)
        assert (answer.status_code, answer.content) == (202, b"")
        uuid = answer.headers["docker-upload-uuid"]
        assert answer.headers["location"] == UPLOADS + str(UUID(uuid))
        assert answer.headers["range"] == "0-0"
        assert "oci-chunk-min-length" not in answer.headers
        seen.add(uuid)
    assert len(seen) == 2


async def test_a_store_with_a_least_chunk_says_so(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """2.6 OCI-Chunk-Min-Length on the POST, and whenever the session is asked for."""
    monkeypatch.setattr(FilesystemStore, "minimum_chunk", 5 * 1024**2)
    begun = await client.post(UPLOADS)
    assert begun.headers["oci-chunk-min-length"] == "5242880"
    assert (await client.get(begun.headers["location"])).headers["oci-chunk-min-length"] == "5242880"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("content", [CONTENT, b""], ids=["some", "empty"])
async def test_a_blob_is_pushed_in_every_form(client: httpx.AsyncClient, content: bytes, algorithm: str) -> None:
    """2.2, 2.3, 2.5, 2.13 alone, by PUT, in chunks, as a stream; sha512 said before or not."""
    for form in ("alone", "put", "chunks", "last chunk", "stream", "streamed put", "said before"):
        body = form.encode() + content if content else b""
        digest = digest_of(body, algorithm)
        answer = await _push(client, form, body, digest)
        assert (answer.status_code, answer.content) == (201, b""), form
        assert answer.headers["location"] == f"/v2/acme/web/blobs/{digest}"
        assert answer.headers["docker-content-digest"] == digest
        assert (await client.get(answer.headers["location"])).content == body
        await client.delete(answer.headers["location"])


async def _push(client: httpx.AsyncClient, form: str, body: bytes, digest: str) -> httpx.Response:
    closing = {"digest": digest}
    if form == "alone":
        return await client.post(UPLOADS, params=closing, content=in_pieces(body[:100], body[100:]))
    location = await begin_upload(
        client, "acme/web", **({"digest-algorithm": "sha512"} if form == "said before" else {})
    )
    if form == "put" or not body:
        return await client.put(location, params=closing, content=body)
    half = len(body) // 2
    if form == "streamed put":
        return await client.put(location, params=closing, content=in_pieces(body[:half], b"", body[half:]))
    if form == "stream":
        assert (await client.patch(location, content=in_pieces(body[:half], body[half:]))).status_code == 202
        return await client.put(location, params=closing)
    assert (await client.patch(location, content=body[:half], headers=chunk(0, half - 1))).status_code == 202
    rest = chunk(half, len(body) - 1)
    if form == "last chunk":
        return await client.put(location, params=closing, content=body[half:], headers=rest)
    assert (await client.patch(location, content=body[half:], headers=rest)).status_code == 202
    return await client.put(location, params=closing)


async def test_chunks_are_added_one_behind_the_other(client: httpx.AsyncClient) -> None:
    """2.7, 2.9 202 with Location and Range to the last byte; a streamed part may come between."""
    location = await begin_upload(client, "acme/web")
    for first, last in ((0, 0), (1, 999), (1000, 8191)):
        answer = await client.patch(location, content=CONTENT[first : last + 1], headers=chunk(first, last))
        assert answer.status_code == 202
        assert answer.headers["location"] == location
        assert answer.headers["range"] == f"0-{last}"
        assert answer.headers["docker-upload-uuid"] in location
        await assert_stands_at(client, location, last + 1)
    answer = await client.patch(location, content=in_pieces(CONTENT[8192:]))
    assert answer.headers["range"] == f"0-{len(CONTENT) - 1}"
    answer = await client.put(location, params={"digest": digest_of(CONTENT)})
    assert answer.status_code == 201


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_chunk_out_of_order_is_refused_and_the_session_lives_on(client: httpx.AsyncClient, method: str) -> None:
    """2.8 gap, repeat, overlap, inverted, in PATCH and in the closing PUT: 416 with the current Range."""
    location = await begin_upload(client, "acme/web")
    params = {"digest": digest_of(CONTENT)} if method == "PUT" else {}
    first = await client.request(method, location, params=params, content=b"x" * 10, headers=chunk(10, 19))
    assert (first.status_code, errors(first), first.headers["range"]) == (416, ["BLOB_UPLOAD_INVALID"], "0-0")
    await client.patch(location, content=CONTENT[:100], headers=chunk(0, 99))
    for start, last in ((101, 110), (0, 99), (50, 149), (99, 108), (100, 99), (101, 100), (10**18, 10**18 + 9)):
        body = b"x" * max(last - start + 1, 5)
        answer = await client.request(method, location, params=params, content=body, headers=chunk(start, last))
        assert (answer.status_code, errors(answer)) == (416, ["BLOB_UPLOAD_INVALID"]), (start, last)
        assert answer.headers["range"] == "0-99"
        await assert_stands_at(client, location, 100)
    answer = await client.put(
        location, params={"digest": digest_of(CONTENT)}, content=CONTENT[100:], headers=chunk(100, len(CONTENT) - 1)
    )
    assert answer.status_code == 201


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_content_range_that_contradicts_the_body_is_refused(client: httpx.AsyncClient, method: str) -> None:
    """2.7, 6.1 unreadable, or not of the body's length, with a Content-Length or chunked: 400 SIZE_INVALID."""
    location = await begin_upload(client, "acme/web")
    params = {"digest": digest_of(b"0123456789")} if method == "PUT" else {}
    for text in ("0-8", "0-10", "ten", "0", "-", "bytes 0-", "0-\u00b2", "0-" + "9" * 30, ""):
        for body in (b"0123456789", in_pieces(b"01234", b"56789")):
            answer = await client.request(
                method, location, params=params, content=body, headers={b"content-range": text.encode("latin-1")}
            )
            assert (answer.status_code, errors(answer)) == (400, ["SIZE_INVALID"]), text
            assert (await client.get(location)).status_code == 204
        await client.delete(location)
        location = await begin_upload(client, "acme/web")
    accepted = await client.patch(location, content=b"0123456789", headers={"content-range": "bytes 0-9/10"})
    assert accepted.status_code == 202


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_content_of_another_digest_is_refused_and_may_be_tried_again(
    client: httpx.AsyncClient, algorithm: str
) -> None:
    """2.4 in every form: nothing is stored; what the failed PUT brought is forgotten, what came before is kept."""
    wrong = digest_of(b"something else", algorithm)
    answer = await client.post(UPLOADS, params={"digest": wrong}, content=CONTENT)
    assert (answer.status_code, errors(answer)) == (400, ["DIGEST_INVALID"])
    for before in (b"", CONTENT[:5000]):
        location = await begin_upload(client, "acme/web")
        if before:
            await client.patch(location, content=before)
        rest = CONTENT[len(before) :]
        for body in (rest, rest + b"more", b"", in_pieces(rest)):
            answer = await client.put(location, params={"digest": wrong}, content=body)
            assert (answer.status_code, errors(answer)) == (400, ["DIGEST_INVALID"])
            await assert_stands_at(client, location, len(before))
            await assert_nothing_was_stored(client, wrong)
        right = digest_of(CONTENT, algorithm)
        answer = await client.put(location, params={"digest": right}, content=rest)
        assert answer.status_code == 201
        assert (await client.get(answer.headers["location"])).content == CONTENT
        await client.delete(answer.headers["location"])


async def test_a_refused_session_may_be_cancelled(client: httpx.AsyncClient) -> None:
    """2.4, 2.10 also one that was never closed right, or closed without any digest."""
    location = await begin_upload(client, "acme/web")
    for params in ({"digest": ABSENT}, {}, {"digest": ""}, {"digest": "sha256:short"}, {"digest": "md5:" + "0" * 32}):
        answer = await client.put(location, params=params, content=CONTENT)
        assert (answer.status_code, errors(answer)) == (400, ["DIGEST_INVALID"])
    assert (await client.delete(location)).status_code == 204
    assert (await client.get(location)).status_code == 404


async def test_the_digest_algorithm_may_be_said_at_the_beginning(client: httpx.AsyncClient) -> None:
    """2.5 a hint: another one may close the session; one that nobody knows is refused."""
    for said, used in (("sha512", "sha512"), ("sha512", "sha256"), ("sha256", "sha512"), ("", "sha256")):
        location = await begin_upload(client, "acme/web", **{"digest-algorithm": said})
        await client.patch(location, content=CONTENT)
        answer = await client.put(location, params={"digest": digest_of(CONTENT, used)})
        assert answer.status_code == 201
    answer = await client.post(UPLOADS, params={"digest-algorithm": "crc32"})
    assert (answer.status_code, errors(answer)) == (400, ["DIGEST_INVALID"])


async def test_an_ended_session_is_unknown_in_every_way(client: httpx.AsyncClient) -> None:
    """2.9, 2.10 finished, cancelled, or never begun: 404 BLOB_UPLOAD_UNKNOWN."""
    finished, cancelled = await begin_upload(client, "acme/web"), await begin_upload(client, "acme/web")
    await client.put(finished, params={"digest": digest_of(CONTENT)}, content=CONTENT)
    assert (await client.delete(cancelled)).status_code == 204
    for location in (finished, cancelled, f"{UPLOADS}{uuid4()}", f"{UPLOADS}{'0' * 36}", f"{UPLOADS}x%00"):
        await _assert_unknown(client, location)


async def _assert_unknown(client: httpx.AsyncClient, location: str) -> None:
    for method in ("GET", "HEAD", "PATCH", "PUT", "DELETE"):
        answer = await client.request(method, location, params={"digest": digest_of(b"x")}, content=b"x")
        assert answer.status_code == 404, (method, location)
        assert method == "HEAD" or errors(answer) == ["BLOB_UPLOAD_UNKNOWN"]


async def test_a_session_is_known_by_its_one_name_in_its_own_repository_only(client: httpx.AsyncClient) -> None:
    """2.9, hazard CVE-2026-32589: the UUID of another repository's session is none, nor is another spelling."""
    location = await begin_upload(client, "acme/web")
    await push_blob(client, "acme/other", b"x")
    await push_blob(client, "nobody/web", b"x")
    uuid = location.rpartition("/")[2]
    for other in (
        f"/v2/acme/other/blobs/uploads/{uuid}",
        f"/v2/nobody/web/blobs/uploads/{uuid}",
        f"/v2/acme/nothing/blobs/uploads/{uuid}",
        f"{UPLOADS}{uuid.upper()}",
        f"{UPLOADS}{uuid.replace('-', '')}",
        f"{UPLOADS}%7B{uuid}%7D",
    ):
        await _assert_unknown(client, other)
    await assert_stands_at(client, location, 0)


async def test_an_unfinished_session_expires(
    client: httpx.AsyncClient, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """2.10 and writing to it puts that off."""
    location = await begin_upload(client, "acme/web")
    sql.execute("update uploads set expires_at = now() + interval '1 minute'")
    await client.patch(location, content=b"x")
    left = sql.execute("select expires_at > now() + interval '1 hour' from uploads").fetchone()
    assert left == (True,)
    sql.execute("update uploads set expires_at = now() - interval '1 second'")
    await _assert_unknown(client, location)
