"""PROTOCOL, "Push a blob": mounting."""

from __future__ import annotations

import httpx
import pytest

from tests.api.contents import ABSENT, digest_of, push_blob, push_image

UPLOADS = "/v2/acme/web/blobs/uploads/"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_blob_of_another_repository_is_mounted(client: httpx.AsyncClient, algorithm: str) -> None:
    """2.11, 2.12 with from, and without; the target may not exist yet, or have the blob already."""
    digest = await push_blob(client, "acme/base", b"shared", algorithm)
    for target, source in (
        ("acme/web", {"from": "acme/base"}),
        ("acme/web", {"from": "acme/base"}),
        ("acme/second", {}),
        ("acme/third", {"from": ""}),
        ("acme/base", {"from": "acme/base"}),
    ):
        answer = await client.post(f"/v2/{target}/blobs/uploads/", params={"mount": digest, **source})
        assert (answer.status_code, answer.content) == (201, b"")
        assert answer.headers["location"] == f"/v2/{target}/blobs/{digest}"
        assert answer.headers["docker-content-digest"] == digest
        assert "docker-upload-uuid" not in answer.headers
        assert (await client.get(answer.headers["location"])).content == b"shared"
    await client.delete(f"/v2/acme/base/blobs/{digest}")
    assert (await client.get(f"/v2/acme/web/blobs/{digest}")).status_code == 200


async def test_what_cant_be_mounted_is_an_ordinary_session(client: httpx.AsyncClient) -> None:
    """2.11, hazard CVE-2024-39897: the same 202 whether the content is elsewhere or nowhere."""
    digest = await push_blob(client, "stranger/web", b"secret")
    await push_blob(client, "acme/base", b"other")
    await push_blob(client, "x", b"in library")
    seen = set()
    for params in (
        {"mount": digest, "from": "stranger/web"},
        {"mount": digest},
        {"mount": digest, "from": "acme/base"},
        {"mount": digest, "from": "acme/nothing"},
        {"mount": digest, "from": "nobody/nothing"},
        {"mount": digest_of(b"in library"), "from": "x"},
        {"mount": ABSENT, "from": "acme/base"},
        {"mount": ABSENT},
        {"mount": ABSENT, "digest": ABSENT},
        {"mount": digest, "from": "NOT a name"},
        {"mount": digest, "from": "a" * 10_000},
        {"mount": digest, "from": "stranger/web\0"},
    ):
        answer = await client.post(UPLOADS, params=params)
        assert (answer.status_code, answer.content) == (202, b""), params
        assert answer.headers["range"] == "0-0"
        assert answer.headers["location"] == UPLOADS + answer.headers["docker-upload-uuid"]
        seen.add(tuple(sorted(answer.headers)))
        finished = await client.put(answer.headers["location"], params={"digest": digest_of(b"x")}, content=b"x")
        assert finished.status_code == 201
    assert len(seen) == 1
    assert (await client.head(f"/v2/acme/web/blobs/{digest}")).status_code == 404


async def test_a_manifest_is_no_blob_to_mount(client: httpx.AsyncClient) -> None:
    """2.11 content that is a manifest elsewhere is not a blob there."""
    payload = await push_image(client, "acme/base")
    answer = await client.post(UPLOADS, params={"mount": digest_of(payload), "from": "acme/base"})
    assert answer.status_code == 202
