"""PROTOCOL, "Management": deleting tags, manifests and blobs."""

from __future__ import annotations

import httpx

from tests.api.contents import (
    ABSENT,
    CONFIG,
    artifact,
    digest_of,
    errors,
    index,
    push_blob,
    push_image,
    push_manifest,
)

URL = "/v2/acme/web/manifests/"
BLOBS = "/v2/acme/web/blobs/"


async def test_deleting_a_tag_takes_only_the_tag(client: httpx.AsyncClient) -> None:
    """5.1 202; the manifest, and its other tags, stay."""
    payload = await push_image(client, "acme/web", tags=["v1", "v2"])
    answer = await client.delete(f"{URL}v1")
    assert (answer.status_code, answer.content) == (202, b"")
    assert (await client.head(f"{URL}v1")).status_code == 404
    assert (await client.get(f"{URL}v2")).content == payload
    assert (await client.get(URL + digest_of(payload))).content == payload
    assert (await client.delete(f"{URL}v1")).status_code == 404


async def test_deleting_a_manifest_takes_its_tags(client: httpx.AsyncClient) -> None:
    """5.1 202; the digest and every tag on it are 404 at once; other manifests and the blobs stay."""
    other = await push_image(client, "acme/web", tags=["other"])
    payload = await push_image(client, "acme/web", b"layer", tags=["v1", "v2"])
    assert (await client.delete(URL + digest_of(payload))).status_code == 202
    for reference in ("v1", "v2", digest_of(payload)):
        answer = await client.get(URL + reference)
        assert (answer.status_code, errors(answer)) == (404, ["MANIFEST_UNKNOWN"])
    assert (await client.get("/v2/acme/web/tags/list")).json()["tags"] == ["other"]
    assert (await client.get(f"{URL}other")).content == other
    assert (await client.get(BLOBS + digest_of(b"layer"))).content == b"layer"
    await push_manifest(client, "acme/web", payload, "v1")
    assert (await client.get(f"{URL}v1")).content == payload


async def test_deleting_a_blob_takes_it_from_this_repository(client: httpx.AsyncClient) -> None:
    """5.1 202; others keep theirs. Hazard CVE-2026-35172: gone here however often it is read there."""
    digest = await push_blob(client, "acme/web", b"content")
    await push_blob(client, "acme/other", b"content")
    assert (await client.get(BLOBS + digest)).status_code == 200
    answer = await client.delete(BLOBS + digest)
    assert (answer.status_code, answer.content) == (202, b"")
    for _ in range(2):
        assert (await client.get(f"/v2/acme/other/blobs/{digest}")).content == b"content"
        answer = await client.get(BLOBS + digest)
        assert (answer.status_code, errors(answer)) == (404, ["BLOB_UNKNOWN"])
    await push_blob(client, "acme/web", b"content")
    assert (await client.get(BLOBS + digest)).content == b"content"


async def test_what_isnt_there_cant_be_deleted(client: httpx.AsyncClient) -> None:
    """5.1 404 with the right code."""
    payload = await push_image(client, "acme/web")
    for url, code in (
        (f"{URL}v1", "MANIFEST_UNKNOWN"),
        (URL + ABSENT, "MANIFEST_UNKNOWN"),
        (URL + digest_of(CONFIG), "MANIFEST_UNKNOWN"),
        (BLOBS + ABSENT, "BLOB_UNKNOWN"),
        (BLOBS + digest_of(payload), "BLOB_UNKNOWN"),
        ("/v2/acme/nothing/manifests/v1", "NAME_UNKNOWN"),
        (f"/v2/acme/nothing/manifests/{ABSENT}", "NAME_UNKNOWN"),
        (f"/v2/acme/nothing/blobs/{ABSENT}", "NAME_UNKNOWN"),
    ):
        answer = await client.delete(url)
        assert (answer.status_code, errors(answer)) == (404, [code]), url


async def test_a_deleted_referrer_leaves_the_list(client: httpx.AsyncClient) -> None:
    """5.2 at once."""
    subject = digest_of(await push_image(client, "acme/web"))
    referrer = await push_manifest(client, "acme/web", artifact(subject, "a/b"))
    url = f"/v2/acme/web/referrers/{subject}"
    assert len((await client.get(url)).json()["manifests"]) == 1
    assert (await client.delete(URL + referrer)).status_code == 202
    assert (await client.get(url)).json()["manifests"] == []


async def test_what_something_live_needs_cant_be_deleted(client: httpx.AsyncClient) -> None:
    """5.2 a child of an index, a blob of a manifest: 405, naming what needs it; then nothing has changed."""
    child = await push_image(client, "acme/web", b"layer", tags=["child"])
    parent = await push_manifest(client, "acme/web", index(child), "parent")
    for url, needed_by in (
        (URL + digest_of(child), parent),
        (BLOBS + digest_of(b"layer"), digest_of(child)),
        (BLOBS + digest_of(CONFIG), digest_of(child)),
    ):
        answer = await client.delete(url)
        assert (answer.status_code, errors(answer)) == (405, ["UNSUPPORTED"])
        assert needed_by in answer.json()["errors"][0]["message"]
        assert (await client.get(url)).status_code == 200
    assert (await client.get(f"{URL}child")).status_code == 200
    assert (await client.delete(f"{URL}child")).status_code == 202


async def test_what_something_live_needs_goes_when_forced(client: httpx.AsyncClient) -> None:
    """5.2 unless forced: ?force=true takes the child, then the blob; what needed them stays as it was pushed."""
    child = await push_image(client, "acme/web", b"layer", tags=["child"])
    parent = index(child)
    await push_manifest(client, "acme/web", parent, "parent")
    for url in (BLOBS + digest_of(b"layer"), URL + digest_of(child)):
        for unforced in ("false", "", "1", "TRUE"):
            answer = await client.delete(url, params={"force": unforced})
            assert (answer.status_code, errors(answer)) == (405, ["UNSUPPORTED"])
            assert "force" in answer.json()["errors"][0]["message"]
        assert (await client.delete(url, params={"force": "true"})).status_code == 202
        assert (await client.get(url)).status_code == 404
        assert (await client.delete(url, params={"force": "true"})).status_code == 404
    assert (await client.get(f"{URL}child")).status_code == 404
    assert (await client.get(f"{URL}parent")).content == parent


async def test_everything_goes_from_the_top_down(client: httpx.AsyncClient) -> None:
    """5.2 parents, then children, then blobs, in one go; tag history holds nothing back."""
    children = [await push_image(client, "acme/web", layer, tags=["moving"]) for layer in (b"one", b"two")]
    parent = await push_manifest(client, "acme/web", index(*children), "parent")
    top = await push_manifest(client, "acme/web", index(index(*children)), "top")
    blobs = map(digest_of, (CONFIG, b"one", b"two"))
    urls = [URL + top, URL + parent, *(URL + digest_of(child) for child in children), *(BLOBS + blob for blob in blobs)]
    for url in urls:
        assert (await client.delete(url)).status_code == 202, url
    for url in urls:
        assert (await client.get(url)).status_code == 404
    assert (await client.get("/v2/acme/web/tags/list")).json()["tags"] == []
