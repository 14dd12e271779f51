"""PROTOCOL 6.4: what only distsql offers, below ``/v2/_distsql/`` and ``/v2/<repository>/_distsql/``."""

from __future__ import annotations

import asyncio
import base64
import json

import httpx
import pytest

from distsql.api.application import Application
from distsql.contract import Namespace
from distsql.oci.digest import Digest
from distsql.values import ASGIReceive, ASGIScope, ASGISend
from tests.api.contents import (
    ABSENT,
    CONFIG,
    begin_upload,
    digest_of,
    errors,
    index,
    push_blob,
    push_image,
    push_manifest,
)

EXTENSION = "/v2/acme/web/_distsql"


async def test_a_client_finds_out_what_there_is(client: httpx.AsyncClient) -> None:
    """6.4 a discovery document, which no repository can stand in the way of."""
    for url in ("/v2/_distsql/", "/v2/_distsql"):
        found = (await client.get(url)).json()
        assert found["name"] == "_distsql"
        assert "_distsql/tags/<tag>/history" in found["endpoints"]
    answer = await client.head("/v2/_distsql/")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["nothing", "tags", "tags/v1/more", "manifests/x/y/z", "/", "tags//history/"])
async def test_what_there_isnt(client: httpx.AsyncClient, path: str) -> None:
    """6.4 no other path is taken."""
    answer = await client.get(f"{EXTENSION}/{path}")
    assert (answer.status_code, errors(answer)) == (404, ["UNSUPPORTED"])
    assert (await client.get(f"/v2/_distsql/{path}")).status_code == 404


async def test_names_that_are_malformed(client: httpx.AsyncClient) -> None:
    """6.4, 0.1 the same rules for names as everywhere."""
    for path in ("manifests", "tags/v1", "access"):
        answer = await client.get(f"/v2/A/b/_distsql/{path}")
        assert (answer.status_code, errors(answer)) == (400, ["NAME_INVALID"])


async def test_a_repository_goes_with_everything_in_it(client: httpx.AsyncClient) -> None:
    """5.2, 6.4 DELETE of the repository: 202, everything is 404 at once; others keep what they share with it."""
    payload = await push_image(client, "acme/web", b"layer", tags=["v1", "v2"])
    await push_manifest(client, "acme/web", index(payload), "parent")
    await push_image(client, "acme/other", b"layer", tags=["v1"])
    location = await begin_upload(client, "acme/web")
    answer = await client.delete(f"{EXTENSION}/")
    assert (answer.status_code, answer.content) == (202, b"")
    for url, code in (
        ("/v2/acme/web/tags/list", "NAME_UNKNOWN"),
        ("/v2/acme/web/manifests/v1", "NAME_UNKNOWN"),
        (f"/v2/acme/web/blobs/{digest_of(b'layer')}", "NAME_UNKNOWN"),
        (location, "BLOB_UPLOAD_UNKNOWN"),
    ):
        answer = await client.get(url)
        assert (answer.status_code, errors(answer)) == (404, [code]), url
    answer = await client.delete(f"{EXTENSION}/")
    assert (answer.status_code, errors(answer)) == (404, ["NAME_UNKNOWN"])
    assert (await client.get("/v2/_catalog")).json() == {"repositories": ["acme/other"]}
    assert (await client.get("/v2/acme/other/manifests/v1")).content == payload
    assert (await client.get(f"/v2/acme/other/blobs/{digest_of(b'layer')}")).content == b"layer"


async def test_only_deleting_is_for_the_repository_itself(client: httpx.AsyncClient) -> None:
    """6.4 405 with what is allowed."""
    answer = await client.post(f"{EXTENSION}/")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE")


async def test_a_tag_moves_only_from_what_is_expected(client: httpx.AsyncClient) -> None:
    """6.4 compare-and-swap by If-Match and If-None-Match: 412 tells what is there."""
    one, two = [digest_of(await push_image(client, "acme/web", layer)) for layer in (b"one", b"two")]
    url = f"{EXTENSION}/tags/v1"

    async def put(digest: str, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await client.put(url, params={"digest": digest}, headers=named)).status_code

    assert await put(one, if_match=f'"{two}"') == 412
    assert await put(one, if_none_match="*") == 200
    assert await put(two, if_none_match="*") == 412
    answer = await client.put(url, params={"digest": two}, headers={"if-match": f'"{two}"'})
    assert (answer.status_code, errors(answer)) == (412, ["DENIED"])
    assert answer.json()["errors"][0]["detail"] == {"tag": "v1", "digest": one}
    tag = (await client.get(url)).headers["etag"]
    assert await put(two, if_match=tag) == 200
    assert (await client.get("/v2/acme/web/manifests/v1")).headers["docker-content-digest"] == two
    assert await put(one) == 200


async def test_of_many_with_the_same_condition_one_wins(client: httpx.AsyncClient) -> None:
    """6.4 the loser of a race hears so."""
    digests = [digest_of(await push_image(client, "acme/web", b"%d" % number)) for number in range(6)]
    put = [
        client.put(f"{EXTENSION}/tags/v1", params={"digest": digest}, headers={"if-none-match": "*"})
        for digest in digests
    ]
    statuses = sorted(answer.status_code for answer in await asyncio.gather(*put))
    assert statuses == [200, *[412] * 5]


async def test_conditions_and_parameters_that_cant_be_read(client: httpx.AsyncClient) -> None:
    """6.1 400, and nothing moves."""
    digest = digest_of(await push_image(client, "acme/web", tags=["v1"]))
    for headers, code in (
        ({"if-match": "*"}, "DIGEST_INVALID"),
        ({"if-match": '"v1"'}, "DIGEST_INVALID"),
        ({"if-none-match": f'"{digest}"'}, "UNSUPPORTED"),
        ({"if-none-match": "*", "if-match": f'"{digest}"'}, "UNSUPPORTED"),
    ):
        answer = await client.put(f"{EXTENSION}/tags/new", params={"digest": digest}, headers=headers)
        assert (answer.status_code, errors(answer)) == (400, [code]), headers
    for query, code in (("", "DIGEST_INVALID"), ("digest=x", "DIGEST_INVALID")):
        answer = await client.put(f"{EXTENSION}/tags/new?{query}")
        assert (answer.status_code, errors(answer)) == (400, [code])
    for instant in ("yesterday", "2026-11-23", "2026-11-23T10:00:00", "", "0001-01-01T00:00:00%2B14:00", "%00"):
        answer = await client.get(f"{EXTENSION}/tags/v1?at={instant}")
        assert (answer.status_code, errors(answer)) == (400, ["UNSUPPORTED"]), instant
    assert (await client.get("/v2/acme/web/tags/list")).json()["tags"] == ["v1"]


async def test_a_tags_past(client: httpx.AsyncClient) -> None:
    """6.4 every move, by page; and what the tag pointed to at an instant."""
    digests = [digest_of(await push_image(client, "acme/web", layer, tags=["v1"])) for layer in (b"1", b"2", b"3")]
    moves, url = [], f"{EXTENSION}/tags/v1/history?n=2"
    while url:
        answer = await client.get(url)
        moves += answer.json()["moves"]
        url = answer.links.get("next", {}).get("url", "")
    assert [move["digest"] for move in moves] == digests[::-1]
    assert [move["valid_to"] for move in moves] == [None, *(move["valid_from"] for move in moves[:2])]
    for move in moves:
        found = await client.get(f"{EXTENSION}/tags/v1", params={"at": move["valid_from"]})
        assert found.json() == {"tag": "v1", "digest": move["digest"]}
    answer = await client.get(f"{EXTENSION}/tags/v1", params={"at": "2020-01-01T00:00:00Z"})
    assert (answer.status_code, errors(answer)) == (404, ["MANIFEST_UNKNOWN"])
    assert (await client.get(f"{EXTENSION}/tags/v1/history?n=0")).json() == {"tag": "v1", "moves": []}


async def test_all_manifests_and_their_tags(client: httpx.AsyncClient) -> None:
    """6.4 an index of everything, by page, untagged too; and the tags of a digest."""
    payloads = [await push_image(client, "acme/web", b"%d" % number) for number in range(5)]
    await push_manifest(client, "acme/web", payloads[0], "b")
    await push_manifest(client, "acme/web", payloads[0], "a")
    found, url = [], f"{EXTENSION}/manifests?n=2"
    while url:
        answer = await client.get(url)
        assert len(answer.json()["manifests"]) <= 2
        found += [each["digest"] for each in answer.json()["manifests"]]
        url = answer.links.get("next", {}).get("url", "")
    assert found == sorted(map(digest_of, payloads))
    tagged = f"{EXTENSION}/manifests/{digest_of(payloads[0])}/tags"
    assert (await client.get(tagged)).json() == {"tags": ["a", "b"]}
    first = await client.get(tagged, params={"n": 1})
    assert first.json() == {"tags": ["a"]}
    assert (await client.get(first.links["next"]["url"])).json() == {"tags": ["b"]}
    assert (await client.get(f"{EXTENSION}/manifests/{ABSENT}/tags")).json() == {"tags": []}


async def test_signatures_apart_from_manifests(client: httpx.AsyncClient, namespace: Namespace) -> None:
    """6.4 signatures are added and come back, and are part of what is known of trust."""
    digest = digest_of(await push_image(client, "acme/web"))
    url = f"{EXTENSION}/manifests/{digest}/signatures"
    assert (await client.get(url)).json() == {"signatures": []}
    wire = [base64.b64encode(signature).decode() for signature in (b"one", b"\0\xff")]
    assert (await client.post(url, json={"signatures": wire})).status_code == 204
    assert (await client.get(url)).json() == {"signatures": wire}
    assert list(await namespace.repository("acme/web").signatures.get(Digest.parse(digest))) == [b"one", b"\0\xff"]
    trust = (await client.get(f"{EXTENSION}/manifests/{digest}/trust")).json()
    assert {each["kind"] for each in trust["signatures"]} == {"jws"}
    for body in (b"", b"[]", b"{}", b'{"signatures": ["?"]}', b'{"signatures": [1]}', b"[" * 10_000):
        answer = await client.post(url, content=body)
        assert answer.status_code == 400, body
        assert errors(answer)
    assert (await client.get(url)).json() == {"signatures": wire}


async def test_a_mount_that_cant_be_changes_nothing(client: httpx.AsyncClient) -> None:
    """6.4, 2.11 a mount is there or it is 404; no session, no repository."""
    digest = await push_blob(client, "acme/source", b"content")
    url = f"{EXTENSION}/blobs/{digest}"
    for source in ("acme/nowhere", "other/source"):
        answer = await client.put(url, params={"from": source})
        assert (answer.status_code, errors(answer)) == (404, ["BLOB_UNKNOWN"])
    assert (await client.get("/v2/_catalog")).json() == {"repositories": ["acme/source"]}
    assert (await client.put(url, params={"from": "acme/source"})).status_code == 201
    assert (await client.get(f"/v2/acme/web/blobs/{digest}")).content == b"content"
    described = (await client.get(url)).json()
    assert (described["digest"], described["length"]) == (digest, 7)


async def test_an_upload_tells_exactly_where_it_stands(client: httpx.AsyncClient) -> None:
    """6.4, 2.9 also of no bytes and of one, which ``Range: 0-0`` both are."""
    location = await begin_upload(client, "acme/web")
    uuid = location.rpartition("/")[2]
    for offset in (0, 1):
        described = (await client.get(f"{EXTENSION}/uploads/{uuid}")).json()
        assert (described["uuid"], described["offset"]) == (uuid, offset)
        assert described["started_at"] < described["expires_at"]
        await client.patch(location, content=b"x")
    answer = await client.get(f"{EXTENSION}/uploads/{uuid.upper()}")
    assert (answer.status_code, errors(answer)) == (404, ["BLOB_UPLOAD_UNKNOWN"])


async def test_who_holds_some_content(client: httpx.AsyncClient) -> None:
    """6.4 by page, in byte order; and what the caller may do."""
    for name in ("b/x", "a/y", "a/x"):
        await push_image(client, name)
    found, url = [], f"/v2/_distsql/holders/{digest_of(CONFIG)}?n=2"
    while url:
        answer = await client.get(url)
        found.append(answer.json()["repositories"])
        url = answer.links.get("next", {}).get("url", "")
    assert found == [["a/x", "a/y"], ["b/x"]]
    assert (await client.get(f"/v2/_distsql/holders/{digest_of(CONFIG)}?n=0")).json() == {"repositories": []}
    assert json.loads((await client.get(f"{EXTENSION}/access")).content) == {
        "actions": ["pull", "push", "delete", "admin"]
    }


async def test_nobody_acts_as_another_by_saying_so(
    client: httpx.AsyncClient, application: Application, namespace: Namespace
) -> None:
    """6.4 the header is for a gate before the registry; only what mounts the application says who the caller is."""
    digest = digest_of(await push_image(client, "acme/web"))
    url = f"{EXTENSION}/tags/v1?digest={digest}"
    assert (await client.put(url, headers={"distsql-actor": "admin"})).status_code == 200

    async def gate(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        await application({**scope, "distsql.actor": "ann"}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=gate), base_url="http://registry.test") as known:
        assert (await known.put(url.replace("v1", "v2"))).status_code == 200
    for tag, actor in (("v1", "anonymous"), ("v2", "ann")):
        assert [move.actor async for move in namespace.repository("acme/web").tags.history(tag)] == [actor]
