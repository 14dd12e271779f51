"""PROTOCOL, "Pull": blobs."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from distsql.settings import Settings
from tests.api.contents import ABSENT, digest_of, errors, push_blob
from tests.api.exchange import Exchange

LARGE = bytes(range(256)) * 1024  # beyond what is answered from memory


@pytest.mark.parametrize("content", [b"", b"content", LARGE], ids=["empty", "small", "large"])
async def test_a_blob_is_read_and_asked_for(client: httpx.AsyncClient, content: bytes) -> None:
    """1.1 GET and HEAD differ in the body only."""
    digest = await push_blob(client, "acme/web", content)
    url = f"/v2/acme/web/blobs/{digest}"
    read, asked = await client.get(url), await client.head(url)
    assert (read.status_code, read.content) == (200, content)
    assert (asked.status_code, asked.content) == (200, b"")
    assert dict(read.headers) == dict(asked.headers)
    assert read.headers["docker-content-digest"] == digest
    assert read.headers["content-length"] == str(len(content))
    assert read.headers["accept-ranges"] == "bytes"


async def test_what_isnt_there_is_told_by_its_code(client: httpx.AsyncClient) -> None:
    """1.1 an unknown repository, and an unknown blob in a known one; HEAD has no body."""
    digest = await push_blob(client, "acme/web", b"content")
    for url, code in (
        (f"/v2/acme/nothing/blobs/{digest}", "NAME_UNKNOWN"),
        (f"/v2/nobody/web/blobs/{digest}", "NAME_UNKNOWN"),
        (f"/v2/acme/web/blobs/{ABSENT}", "BLOB_UNKNOWN"),
    ):
        answer = await client.get(url)
        assert (answer.status_code, errors(answer)) == (404, [code])
        answer = await client.head(url)
        assert (answer.status_code, answer.content) == (404, b"")


async def test_a_blob_that_the_client_has_isnt_sent_again(client: httpx.AsyncClient) -> None:
    """1.3 If-None-Match by digest: 304 without a body; anything else is the content."""
    digest = await push_blob(client, "acme/web", b"content")
    url = f"/v2/acme/web/blobs/{digest}"
    for known in (f'"{digest}"', f'W/"{digest}"', f'"x", "{digest}"', "*"):
        for method in ("GET", "HEAD"):
            answer = await client.request(method, url, headers={"if-none-match": known})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == f'"{digest}"'
            assert "content-length" not in answer.headers
    for other in (f'"{ABSENT}"', "", "x" * 10_000, '"', ",,,"):
        assert (await client.get(url, headers={"if-none-match": other})).status_code == 200
    answer = await client.get(f"/v2/acme/web/blobs/{ABSENT}", headers={"if-none-match": "*"})
    assert answer.status_code == 404


async def test_content_of_strangers_is_never_taken_for_a_page(client: httpx.AsyncClient) -> None:
    """Hazard CVE-2026-103667: blobs are octet-stream, nosniff and sandboxed, whatever is pushed as whatever."""
    page = b"<!doctype html><script>alert(1)</script>"
    digest = digest_of(page)
    await client.post(
        "/v2/acme/web/blobs/uploads/", params={"digest": digest}, content=page, headers={"content-type": "text/html"}
    )
    for headers in ({}, {"range": "bytes=0-5"}, {"accept": "text/html"}):
        answer = await client.get(f"/v2/acme/web/blobs/{digest}", headers=headers)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]


async def test_a_large_blob_is_handed_to_the_server_as_a_file(client: httpx.AsyncClient, raw: Exchange) -> None:
    """1.1 where the server sends files itself, no byte passes through Python."""
    digest = await push_blob(client, "acme/web", LARGE)
    url = f"/v2/acme/web/blobs/{digest}"
    answer = await raw("GET", url, extensions=["http.response.pathsend"])
    assert (answer.status, answer.headers["content-length"]) == (200, str(len(LARGE)))
    assert answer.path is not None
    assert Path(answer.path).read_bytes() == LARGE
    part = await raw("GET", url, headers={"range": "bytes=10-200009"}, extensions=["http.response.pathsend"])
    assert (part.status, part.body, part.path) == (206, LARGE[10:200_010], None)


@pytest.mark.parametrize("extensions", [[], ["http.response.pathsend"]], ids=["stream", "file"])
async def test_a_client_that_leaves_is_no_failure(
    client: httpx.AsyncClient, raw: Exchange, extensions: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The log isn't for what strangers do, and nobody is there to be told."""
    digest = await push_blob(client, "acme/web", LARGE)
    answer = await raw("GET", f"/v2/acme/web/blobs/{digest}", extensions=extensions, leaves=True)
    assert (answer.status, answer.body, answer.path) == (200, b"", None)
    assert caplog.records == []


@pytest.mark.parametrize("content", [b"content", LARGE], ids=["small", "large"])
async def test_bytes_that_the_store_has_lost_are_an_error_and_no_short_answer(
    client: httpx.AsyncClient, raw: Exchange, settings: Settings, tmp_path: Path, content: bytes
) -> None:
    """6.1 500, told before the first byte; HEAD and the rest of the registry go on."""
    digest = await push_blob(client, "acme/web", content)
    for file in (tmp_path / "bytes").rglob("*"):
        if file.is_file() and file.read_bytes() == content:
            file.unlink()
    for extensions in ([], ["http.response.pathsend"]):
        answer = await raw("GET", f"/v2/acme/web/blobs/{digest}", extensions=extensions)
        assert (answer.status, answer.codes) == (500, ["UNKNOWN"])
    assert (await client.get("/v2/")).status_code == 200


async def test_a_proxy_may_add_the_namespace_that_it_mirrors(client: httpx.AsyncClient) -> None:
    """6.4 ns= and parameters that nobody knows change nothing."""
    digest = await push_blob(client, "acme/web", b"content")
    for query in ("ns=docker.io", "ns=", "x=1&x=2&&=&%zz=%zz", "ns=%00"):
        assert (await client.get(f"/v2/acme/web/blobs/{digest}?{query}")).content == b"content"
