"""PROTOCOL, "Docker's older formats"."""

from __future__ import annotations

import hashlib
import json

import httpx
import pytest

from distsql.registry.namespace import StoredNamespace
from tests.api.contents import (
    CONFIG,
    DOCKER_IMAGE,
    described,
    digest_of,
    errors,
    push_blob,
    put_manifest,
)
from tests.libtrust import Block, p256, pretty, rsa_key, signed

URL = "/v2/acme/web/manifests/"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
LAYER = b"a layer"


def schema1(*, name: str = "acme/web", tag: str = "v1", architecture: str = "amd64") -> bytes:
    """Canonical text as old Docker engines write it."""
    document = {
        "schemaVersion": 1,
        "name": name,
        "tag": tag,
        "architecture": architecture,
        "fsLayers": [{"blobSum": digest_of(LAYER)}],
        "history": [{"v1Compatibility": '{"id":"a"}'}],
    }
    return json.dumps(document, indent=3).encode()


@pytest.fixture(autouse=True)
async def layer(client: httpx.AsyncClient) -> None:
    for content in (CONFIG, LAYER):
        await push_blob(client, "acme/web", content)


async def served(client: httpx.AsyncClient, reference: str) -> tuple[bytes, str, str]:
    """What GET gives, without an Accept as the oldest clients; HEAD tells the same."""
    client.headers.pop("accept", None)
    answer, asked = await client.get(URL + reference), await client.head(URL + reference)
    assert answer.status_code == 200, answer.text
    assert dict(answer.headers) == dict(asked.headers)
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer.content, answer.headers["content-type"], answer.headers["docker-content-digest"]


@pytest.mark.parametrize("content_type", [SCHEMA1, "application/json", f"{SCHEMA1}; charset=utf-8"])
async def test_unsigned_schema_1_comes_out_as_it_went_in(client: httpx.AsyncClient, content_type: str) -> None:
    """Older formats, 0.4, 0.7, 3.3: byte for byte, under the digest of the payload; by tag and by digest."""
    payload = schema1()
    for reference in ("v1", digest_of(payload), digest_of(payload, "sha512")):
        answer = await put_manifest(client, "acme/web", payload, reference, media_type=content_type)
        assert answer.status_code == 201, answer.text
        algorithm = "sha512" if reference.startswith("sha512") else "sha256"
        assert answer.headers["docker-content-digest"] == digest_of(payload, algorithm)
        assert await served(client, reference) == (payload, SCHEMA1, digest_of(payload, algorithm))


@pytest.mark.parametrize("content_type", [SIGNED, SCHEMA1, "application/json"])
async def test_signed_schema_1_comes_out_with_its_signatures(
    client: httpx.AsyncClient, namespace: StoredNamespace, content_type: str
) -> None:
    """Older formats, 0.4: the digest is the canonical text's, the bytes are those of the push, ES256 and RS256."""
    canonical = schema1()
    payload = signed(canonical, p256("ann"), rsa_key())
    digest = digest_of(canonical)
    for reference in ("v1", digest):
        answer = await put_manifest(client, "acme/web", payload, reference, media_type=content_type)
        assert (answer.status_code, answer.headers["docker-content-digest"]) == (201, digest)
        settled = SIGNED if content_type == "application/json" else content_type
        assert await served(client, reference) == (payload, settled, digest)
    repository = namespace.repository("acme/web")
    kept = await repository.signatures.get((await repository.tags.get("v1")).digest)
    assert [json.loads(each) for each in kept] == json.loads(payload)["signatures"]


async def test_the_digest_with_the_signatures_is_nobodys(client: httpx.AsyncClient) -> None:
    """3.2, older formats: pushed by the digest of the whole payload, it is refused."""
    payload = signed(schema1(), p256("ann"))
    answer = await put_manifest(client, "acme/web", payload, digest_of(payload), media_type=SIGNED)
    assert (answer.status_code, errors(answer)) == (400, ["DIGEST_INVALID"])


def untrue(canonical: bytes) -> dict[str, list[Block]]:
    """Signatures that are none of this text, by what is wrong with them."""
    ann, bob = p256("ann").block(canonical), p256("bob").block(canonical)
    weak = rsa_key(1024).block(canonical)
    none = {**ann, "header": {**ann["header"], "alg": "none"}, "signature": ""}
    return {
        "missing": [],
        "another key's": [{**ann, "header": bob["header"]}],
        "another manifest's": [p256("ann").block(canonical.replace(b"amd64", b"arm64"))],
        "another manifest's, which is longer": [p256("ann").block(schema1(architecture="mips64el"))],
        "another kid": [p256("ann").claiming(kid=p256("bob").kid).block(canonical)],
        "none": [none],
        "HS256": [{**ann, "header": {**ann["header"], "alg": "HS256"}}],
        "a weak key": [weak],
        "cut": [{**ann, "signature": ann["signature"][:-4]}],
        "one of two": [bob, {**ann, "signature": bob["signature"]}],
    }


@pytest.mark.parametrize("wrong", list(untrue(b"{}")))
async def test_signatures_that_are_not_true(client: httpx.AsyncClient, wrong: str) -> None:
    """Older formats: a wrong, missing or foreign signature is 400 MANIFEST_UNVERIFIED, and changes nothing."""
    canonical = schema1()
    payload = pretty(canonical, *untrue(canonical)[wrong])
    for reference in ("v1", digest_of(canonical)):
        answer = await put_manifest(client, "acme/web", payload, reference, media_type=SIGNED)
        assert (answer.status_code, errors(answer)) == (400, ["MANIFEST_UNVERIFIED"])
        assert (await client.get(URL + reference)).status_code == 404


async def test_name_and_tag_inside_match_the_request(client: httpx.AsyncClient) -> None:
    """Older formats: otherwise NAME_INVALID or TAG_INVALID, signed or not; `x` is `library/x`."""
    for payload, code in (
        (schema1(name="acme/other"), "NAME_INVALID"),
        (schema1(name="web"), "NAME_INVALID"),
        (schema1(name="Acme/web"), "NAME_INVALID"),
        (schema1(tag="v2"), "TAG_INVALID"),
    ):
        for content, media_type in ((payload, SCHEMA1), (signed(payload, p256("ann")), SIGNED)):
            answer = await put_manifest(client, "acme/web", content, "v1", media_type=media_type)
            assert (answer.status_code, errors(answer)) == (400, [code])
    assert (await client.get("/v2/acme/web/tags/list")).json()["tags"] == []
    await push_blob(client, "web", LAYER)
    for name in ("web", "library/web"):
        answer = await put_manifest(client, "web", schema1(name=name), "v1", media_type=SCHEMA1)
        assert answer.status_code == 201
    # Tags of one push by digest are tags of the request too (3.7).
    for params, status in (({"tag": ["v1"]}, 201), ({"tag": ["v1", "v2"]}, 400)):
        answer = await put_manifest(client, "acme/web", schema1(), media_type=SCHEMA1, params=params)
        assert answer.status_code == status


async def test_another_signer_adds_signatures_and_changes_no_bytes(
    client: httpx.AsyncClient, namespace: StoredNamespace
) -> None:
    """Older formats, 0.4: what is served under a digest stays as it was first pushed with signatures."""
    canonical = schema1()
    first, second = signed(canonical, p256("ann")), signed(canonical, p256("bob"))
    for payload, media_type, expected in (
        (canonical, SCHEMA1, (canonical, SCHEMA1)),
        (first, SIGNED, (first, SIGNED)),
        (second, SIGNED, (first, SIGNED)),
        (canonical, SCHEMA1, (first, SIGNED)),
    ):
        answer = await put_manifest(client, "acme/web", payload, "v1", media_type=media_type)
        assert (answer.status_code, answer.headers["docker-content-digest"]) == (201, digest_of(canonical))
        for reference in ("v1", digest_of(canonical)):
            assert (await served(client, reference))[:2] == expected
    repository = namespace.repository("acme/web")
    assert len(await repository.signatures.get((await repository.tags.get("v1")).digest)) == 2


async def test_missing_layers_of_schema_1(client: httpx.AsyncClient) -> None:
    """3.4, older formats: they are listed as those of any other image."""
    payload = schema1().replace(digest_of(LAYER).encode(), digest_of(b"absent").encode())
    answer = await put_manifest(client, "acme/web", signed(payload, p256("ann")), "v1", media_type=SIGNED)
    assert (answer.status_code, errors(answer)) == (400, ["MANIFEST_BLOB_UNKNOWN"])
    assert [each["digest"] for each in answer.json()["errors"][0]["detail"]] == [digest_of(b"absent")]


async def test_schema_2_foreign_layers_and_lists(client: httpx.AsyncClient) -> None:
    """Older formats, 0.4, 3.4: byte for byte; foreign layers may be absent, and nobody follows their urls."""
    urls = ["http://192.0.2.1/never-asked-for", "not a url"]
    image = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_IMAGE,
            "config": described(CONFIG, "application/vnd.docker.container.image.v1+json"),
            "layers": [described(b"absent", FOREIGN_LAYER, urls=urls), described(LAYER, DOCKER_LAYER)],
        },
        indent=3,
    ).encode()
    platform = {"architecture": "amd64", "os": "windows", "os.version": "10.0", "features": ["sse4"]}
    child = described(image, DOCKER_IMAGE, platform=platform)
    listed = json.dumps({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [child]}, indent=3).encode()
    for payload, media_type in ((image, DOCKER_IMAGE), (listed, DOCKER_LIST)):
        for reference in ("v1", digest_of(payload), digest_of(payload, "sha512")):
            answer = await put_manifest(client, "acme/web", payload, reference)
            assert answer.status_code == 201, answer.text
            assert (await served(client, reference))[:2] == (payload, media_type)
    local = json.loads(image) | {"layers": [described(b"absent", DOCKER_LAYER)]}
    answer = await put_manifest(client, "acme/web", json.dumps(local).encode(), "v2")
    assert (answer.status_code, errors(answer)) == (400, ["MANIFEST_BLOB_UNKNOWN"])


async def test_json_of_a_type_that_nobody_knows(client: httpx.AsyncClient) -> None:
    """3.4, 0.4, 0.5: any media type, byte for byte, with the Content-Type of the push."""
    payload = b'{\n\t"what": "an artifact of the future", "n": 1.50, "big": 18446744073709551615, "\\u00fc": null }\r\n'
    media_type = "application/vnd.Example.thing.v9+json"
    answer = await put_manifest(client, "acme/web", payload, "v1", media_type=media_type)
    assert answer.status_code == 201, answer.text
    assert await served(client, "v1") == (payload, media_type, f"sha256:{hashlib.sha256(payload).hexdigest()}")
