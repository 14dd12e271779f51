"""PROTOCOL, "Pull" and "Push a manifest"."""

from __future__ import annotations

import json

import httpx
import pytest

from distsql.app import Registry
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.values import Caller
from tests.api.contents import (
    ABSENT,
    CONFIG,
    CONFIG_TYPE,
    DOCKER_IMAGE,
    OCI_IMAGE,
    OCI_INDEX,
    artifact,
    described,
    digest_of,
    errors,
    image,
    in_pieces,
    index,
    push_blob,
    push_image,
    push_manifest,
    put_manifest,
)

URL = "/v2/acme/web/manifests/"
LIMIT = 8 * 1024**2


async def test_a_manifest_is_read_by_tag_and_by_digest(client: httpx.AsyncClient) -> None:
    """1.1 GET and HEAD differ in the body only; unknown ones are told apart, and HEAD has no body then either."""
    payload = await push_image(client, "acme/web", b"layer", tags=["v1"])
    for reference in ("v1", digest_of(payload)):
        read, asked = await client.get(URL + reference), await client.head(URL + reference)
        assert (read.status_code, read.content) == (200, payload)
        assert (asked.status_code, asked.content) == (200, b"")
        assert dict(read.headers) == dict(asked.headers)
        assert read.headers["docker-content-digest"] == digest_of(payload)
    for url, code in (
        (f"{URL}v2", "MANIFEST_UNKNOWN"),
        (URL + ABSENT, "MANIFEST_UNKNOWN"),
        (URL + digest_of(CONFIG), "MANIFEST_UNKNOWN"),
        ("/v2/acme/nothing/manifests/v1", "NAME_UNKNOWN"),
        (f"/v2/acme/nothing/manifests/{ABSENT}", "NAME_UNKNOWN"),
    ):
        answer = await client.get(url)
        assert (answer.status_code, errors(answer)) == (404, [code])
        answer = await client.head(url)
        assert (answer.status_code, answer.content) == (404, b"")


async def test_accept_converts_nothing_and_etags_work(client: httpx.AsyncClient) -> None:
    """1.3 no 406, no other format; If-None-Match by tag and by digest."""
    payload = await push_image(client, "acme/web", tags=["v1"])
    for accept in (DOCKER_IMAGE, "text/html", "", "x" * 5000, "*/*;q=0"):
        answer = await client.get(f"{URL}v1", headers={"accept": accept})
        assert (answer.content, answer.headers["content-type"]) == (payload, OCI_IMAGE)
    for reference in ("v1", digest_of(payload)):
        for method in ("GET", "HEAD"):
            known = {"if-none-match": f'"{digest_of(payload)}"'}
            answer = await client.request(method, URL + reference, headers=known)
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["docker-content-digest"] == digest_of(payload)
    await push_manifest(client, "acme/web", image(annotations={"new": "yes"}), "v1")
    assert (await client.get(f"{URL}v1", headers=known)).status_code == 200


async def test_a_push_is_answered_with_place_and_digest(client: httpx.AsyncClient) -> None:
    """3.1 by tag and by digest; pushing again changes nothing; chunked bodies as well (2.13)."""
    await push_blob(client, "acme/web", CONFIG)
    payload = image()
    for reference in ("v1", digest_of(payload), digest_of(payload, "sha512"), "v1"):
        answer = await put_manifest(client, "acme/web", payload, reference)
        assert (answer.status_code, answer.content) == (201, b"")
        assert answer.headers["location"] == URL + reference
        named = reference if ":" in reference else digest_of(payload)
        assert answer.headers["docker-content-digest"] == named
        assert (await client.get(answer.headers["location"])).content == payload
    answer = await client.put(
        f"{URL}chunked", content=in_pieces(payload[:9], payload[9:]), headers={"content-type": OCI_IMAGE}
    )
    assert answer.status_code == 201


async def test_a_push_by_another_digest_is_refused(client: httpx.AsyncClient) -> None:
    """3.2 DIGEST_INVALID, and nothing is stored under either digest."""
    await push_blob(client, "acme/web", CONFIG)
    payload = image()
    for wrong in (ABSENT, digest_of(payload + b" "), digest_of(b"x", "sha512")):
        answer = await put_manifest(client, "acme/web", payload, wrong, params={"tag": "v1"})
        assert (answer.status_code, errors(answer)) == (400, ["DIGEST_INVALID"])
    for reference in (ABSENT, digest_of(payload), "v1"):
        assert (await client.head(URL + reference)).status_code == 404


async def test_the_media_type_is_that_of_header_and_body(client: httpx.AsyncClient) -> None:
    """3.3 parameters are ignored, no header is the body's type, a mismatch is refused."""
    await push_blob(client, "acme/web", CONFIG)
    silent = json.dumps({name: value for name, value in json.loads(image()).items() if name != "mediaType"}).encode()
    for payload, sent, stored in (
        (image(), f"{OCI_IMAGE}; charset=utf-8", OCI_IMAGE),
        (image(), f'{OCI_IMAGE};a="b;c"', OCI_IMAGE),
        (image(), "", OCI_IMAGE),
        (silent, OCI_IMAGE, OCI_IMAGE),
        (silent, DOCKER_IMAGE, DOCKER_IMAGE),
        (silent, "application/vnd.example+json", "application/vnd.example+json"),
        (silent, "", OCI_IMAGE),
    ):
        # Another tag and another payload each: a media type is stored once.
        body = payload + b" " * len(sent)
        answer = await client.put(f"{URL}v1", content=body, headers={"content-type": sent} if sent else {})
        assert answer.status_code == 201, sent
        assert (await client.get(f"{URL}v1")).headers["content-type"] == stored
    for sent in (DOCKER_IMAGE, OCI_INDEX, "application/json", "text/plain", "nonsense", "a/b\u00ff", "a/" + "b" * 300):
        answer = await client.put(f"{URL}v2", content=image(), headers={b"content-type": sent.encode("latin-1")})
        assert (answer.status_code, errors(answer)) == (400, ["MANIFEST_INVALID"]), sent


async def test_a_manifest_is_of_one_kind(client: httpx.AsyncClient) -> None:
    """3.3, hazard CVE-2021-41190: what could be read as image and as index is refused, and a type stays for ever."""
    await push_blob(client, "acme/web", CONFIG)
    for payload in (image(manifests=[]), image(Manifests=[]), index(layers=[]), index(config={}), index(config=None)):
        answer = await put_manifest(client, "acme/web", payload, "both")
        expected = 201 if payload == index(config=None) else 400
        assert answer.status_code == expected, payload
        assert expected == 201 or errors(answer) == ["MANIFEST_INVALID"]
    generic = b'{"manifests":[],"layers":[]}'
    first = await put_manifest(client, "acme/web", generic, "generic", media_type="application/vnd.a+json")
    again = await put_manifest(client, "acme/web", generic, "generic", media_type="application/vnd.b+json")
    assert (first.status_code, again.status_code) == (201, 201)
    assert (await client.get(f"{URL}generic")).headers["content-type"] == "application/vnd.a+json"


async def test_everything_that_is_missing_is_listed(client: httpx.AsyncClient) -> None:
    """3.4 MANIFEST_BLOB_UNKNOWN with config, layers and children, each once; the repository doesn't come to be."""
    missing = image(b"one", b"two", b"one")
    for name in ("acme/nothing", "acme/web"):
        answer = await put_manifest(client, name, missing, "v1")
        assert (answer.status_code, errors(answer)) == (400, ["MANIFEST_BLOB_UNKNOWN"])
        told = [entry["digest"] for entry in answer.json()["errors"][0]["detail"]]
        assert sorted(told) == sorted(digest_of(content) for content in (CONFIG, b"one", b"two"))
        assert (await client.get(f"/v2/{name}/tags/list")).status_code == 404
        if name == "acme/nothing":
            await push_blob(client, "acme/other", CONFIG)  # content of other repositories doesn't count
    await push_blob(client, "acme/web", b"two")
    answer = await put_manifest(client, "acme/web", index(image(), image(b"x")), "v1")
    told = [entry["digest"] for entry in answer.json()["errors"][0]["detail"]]
    assert sorted(told) == sorted([digest_of(image()), digest_of(image(b"x"))])


async def test_a_repository_may_take_sparse_manifests(client: httpx.AsyncClient, registry: Registry) -> None:
    """3.4 by its setting: children and layers may be absent then, configs may not."""
    await push_blob(client, "acme/web", CONFIG)
    sparse = index(image(), image(b"absent"))
    assert (await put_manifest(client, "acme/web", sparse, "v1")).status_code == 400
    await RepositoryAdministration(registry.backend.everything, Caller()).set("acme/web", {"sparse": True})
    assert (await put_manifest(client, "acme/web", sparse, "v1")).status_code == 201
    assert (await client.get(f"{URL}v1")).content == sparse
    assert (await put_manifest(client, "acme/web", image(b"absent"), "v2")).status_code == 201
    without_config = image(config=described(b"absent", CONFIG_TYPE))
    assert (await put_manifest(client, "acme/web", without_config, "v3")).status_code == 400


async def test_what_is_unusual_is_accepted(client: httpx.AsyncClient) -> None:
    """3.4 no layers, empty and nested index, unknown fields, data, foreign layers, any media type, any JSON object."""
    for content in (CONFIG, b"{}", b"layer"):
        await push_blob(client, "acme/web", content)
    foreign = described(b"absent", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", urls=["http://x"])
    empty, plain = index(), image()
    payloads = [
        plain,
        image(layers=None),
        empty,
        index(empty, plain),
        image(future={"deep": [1, 2, {"x": None}]}, artifactType="application/vnd.example.thing"),
        image(config=described(b"{}", "application/vnd.oci.empty.v1+json", data="e30=")),
        image(layers=[foreign]),
        image(layers=[described(b"layer", "strange/type")]),
        json.dumps({"mediaType": "application/vnd.example.v7+json", "anything": True}).encode(),
        json.dumps({"mediaType": "application/vnd.example.v7+json", "blobs": [described(b"{}", "a/b")]}).encode(),
    ]
    for payload in payloads:
        digest = await push_manifest(client, "acme/web", payload)
        assert (await client.get(URL + digest)).content == payload


async def test_a_subject_may_be_absent(client: httpx.AsyncClient) -> None:
    """3.5 OCI-Subject for images and indexes, by tag and by digest; not for manifests without a subject."""
    await push_blob(client, "acme/web", CONFIG)
    subject = {"mediaType": OCI_IMAGE, "digest": ABSENT, "size": 9}
    for payload in (image(subject=subject), index(subject=subject), artifact(ABSENT, "a/b")):
        for reference in ("v1", digest_of(payload), digest_of(payload, "sha512")):
            answer = await put_manifest(client, "acme/web", payload, reference)
            assert (answer.status_code, answer.headers["oci-subject"]) == (201, ABSENT)
    assert "oci-subject" not in (await put_manifest(client, "acme/web", image(), "v1")).headers


@pytest.mark.parametrize("length", [4 * 1024**2, LIMIT, LIMIT + 1])
async def test_a_manifest_has_up_to_eight_mebibytes(client: httpx.AsyncClient, length: int) -> None:
    """3.6, hazard CVE-2017-11468: 413 above, also for a stream that doesn't say how long it is."""
    await push_blob(client, "acme/web", CONFIG)
    payload = image(filling="")
    payload = payload.replace(b'"filling": ""', b'"filling": "%b"' % (b"x" * (length - len(payload))))
    pieces = [payload[start : start + 2**20] for start in range(0, length, 2**20)]
    for content in (payload, in_pieces(*pieces)):
        answer = await client.put(f"{URL}v1", content=content, headers={"content-type": OCI_IMAGE})
        if length <= LIMIT:
            assert answer.status_code == 201
            assert (await client.get(f"{URL}v1")).content == payload
        else:
            assert (answer.status_code, errors(answer)) == (413, ["MANIFEST_INVALID"])


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_manifest_gets_many_tags_at_once(client: httpx.AsyncClient, algorithm: str) -> None:
    """3.7 each listed in OCI-Tag; each answers with the digest of the push, sha512 too."""
    await push_blob(client, "acme/web", CONFIG)
    payload = image()
    digest = digest_of(payload, algorithm)
    tags = [f"v{number}" for number in range(12)]
    answer = await put_manifest(client, "acme/web", payload, digest, params={"tag": [*tags, "v0"]})
    assert answer.status_code == 201
    assert answer.headers.get_list("oci-tag") == tags
    for tag in tags:
        answer = await client.get(URL + tag)
        assert (answer.content, answer.headers["docker-content-digest"]) == (payload, digest)
    assert "oci-tag" not in (await put_manifest(client, "acme/web", payload, digest)).headers


async def test_bad_or_too_many_tags_are_refused_together(client: httpx.AsyncClient) -> None:
    """3.7 414 for more than are taken; 400 for one that is no tag; then nothing is stored."""
    await push_blob(client, "acme/web", CONFIG)
    digest = digest_of(image())
    for tags, status, code in (
        (["v1", "bad tag"], 400, "TAG_INVALID"),
        (["v1", ""], 400, "TAG_INVALID"),
        (["v1", "v\0"], 400, "TAG_INVALID"),
        ([f"v{number}" for number in range(101)], 414, "TAG_INVALID"),
        ([f"v{number}" for number in range(501)], 414, "UNSUPPORTED"),
    ):
        answer = await put_manifest(client, "acme/web", image(), digest, params={"tag": tags})
        assert (answer.status_code, errors(answer)) == (status, [code])
        assert (await client.head(URL + digest)).status_code == 404
        assert (await client.head(f"{URL}v1")).status_code == 404


async def test_tags_belong_to_a_push_by_digest(client: httpx.AsyncClient) -> None:
    """3.7, 6.3 a push by tag sets that tag alone, and a Warning says so."""
    await push_blob(client, "acme/web", CONFIG)
    answer = await put_manifest(client, "acme/web", image(), "v1", params={"tag": "v2"})
    assert answer.status_code == 201
    assert "oci-tag" not in answer.headers
    assert answer.headers["warning"].startswith('299 - "')
    assert len(answer.headers["warning"]) < 4096
    assert (await client.get("/v2/acme/web/tags/list")).json()["tags"] == ["v1"]
    assert "warning" not in (await put_manifest(client, "acme/web", image(), "v1")).headers


async def test_an_obsolete_format_is_taken_with_a_warning(client: httpx.AsyncClient) -> None:
    """6.3 Docker's schema 1."""
    await push_blob(client, "acme/web", b"layer")
    old = {"schemaVersion": 1, "name": "acme/web", "tag": "v1", "fsLayers": [{"blobSum": digest_of(b"layer")}]}
    media_type = "application/vnd.docker.distribution.manifest.v1+json"
    answer = await put_manifest(client, "acme/web", json.dumps(old).encode(), "v1", media_type=media_type)
    assert answer.status_code == 201
    assert "obsolete" in answer.headers["warning"]


async def test_a_config_is_a_blob_like_any_other(client: httpx.AsyncClient) -> None:
    """3.4 a manifest that is referred to as a layer has to be there as a blob."""
    await push_blob(client, "acme/web", CONFIG)
    await push_manifest(client, "acme/web", image())
    wrapping = image(config=described(image(), CONFIG_TYPE))
    assert (await put_manifest(client, "acme/web", wrapping, "v1")).status_code == 400
    await push_blob(client, "acme/web", image())
    assert (await put_manifest(client, "acme/web", wrapping, "v1")).status_code == 201
