"""PROTOCOL, "General": names, references, digests, exact bytes, and what the routes make of a path."""

from __future__ import annotations

import gc
from itertools import product

import httpx
import pytest

from distsql.api.requests import Request
from tests.api.contents import (
    ABSENT,
    CONFIG,
    OCI_IMAGE,
    begin_upload,
    digest_of,
    errors,
    image,
    push_blob,
    push_image,
    push_manifest,
    put_manifest,
)
from tests.api.exchange import Exchange

NOUNS = [
    "acme/blobs",
    "acme/manifests/blobs",
    "tags/list",
    "blobs/uploads",
    "uploads/blobs/uploads",
    "referrers/referrers",
    "manifests/latest/manifests",
    "acme/blobs/uploads/tags",
]


async def test_names_may_have_the_routes_own_words_as_components(client: httpx.AsyncClient) -> None:
    """0.1 components may be called blobs, manifests, tags, uploads or referrers."""
    for name in NOUNS:
        await _use_every_route(client, name)
    assert (await client.get("/v2/_catalog")).json() == {"repositories": sorted(NOUNS)}


async def _use_every_route(client: httpx.AsyncClient, name: str) -> None:
    payload = await push_image(client, name, b"layer of " + name.encode(), tags=["list"])
    location = await begin_upload(client, name)
    assert (await client.get(location)).status_code == 204
    assert location.rpartition("/")[0] == f"/v2/{name}/blobs/uploads"
    assert (await client.get(f"/v2/{name}/manifests/list")).content == payload
    assert (await client.get(f"/v2/{name}/blobs/{digest_of(CONFIG)}")).content == CONFIG
    assert (await client.get(f"/v2/{name}/tags/list")).json() == {"name": name, "tags": ["list"]}
    assert (await client.get(f"/v2/{name}/referrers/{ABSENT}")).json()["manifests"] == []


async def test_a_name_outside_the_grammar_is_refused(client: httpx.AsyncClient) -> None:
    """0.1 every route refuses it in the same words."""
    names = ["Acme/web", "acme/-web", "acme/web-", "acme/a__b__", "acme/a___b", "acme//web", "acme/we b", "acme/é"]
    for name, route in product(names, ("tags/list", f"blobs/{ABSENT}", "manifests/latest", f"referrers/{ABSENT}")):
        answer = await client.get(f"/v2/{name}/{route}")
        assert (answer.status_code, errors(answer)) == (400, ["NAME_INVALID"]), name


async def test_a_name_has_up_to_255_characters(client: httpx.AsyncClient) -> None:
    """0.1 the length is that of the full name."""
    longest = "acme/" + "a" * 250
    await push_blob(client, longest, b"content")
    for name in (longest + "a", "a" * 248, "acme/" + "a/" * 5000 + "a"):
        answer = await client.post(f"/v2/{name}/blobs/uploads/")
        assert (answer.status_code, errors(answer)) == (400, ["NAME_INVALID"])


async def test_a_name_of_one_component_is_in_library(client: httpx.AsyncClient) -> None:
    """0.1 x and library/x are one repository; answers keep the name that was asked for."""
    payload = await push_image(client, "x", tags=["v1"])
    assert (await client.get("/v2/library/x/manifests/v1")).content == payload
    assert (await client.get("/v2/x/tags/list")).json() == {"name": "x", "tags": ["v1"]}
    assert (await client.get("/v2/library/x/tags/list")).json() == {"name": "library/x", "tags": ["v1"]}
    assert (await client.get("/v2/_catalog")).json() == {"repositories": ["library/x"]}
    assert (await begin_upload(client, "x")).startswith("/v2/x/blobs/uploads/")


async def test_an_impossible_tag_doesnt_exist_and_cant_be_made(client: httpx.AsyncClient) -> None:
    """0.2 GET, HEAD and DELETE are 404, PUT is 400."""
    payload = await push_image(client, "acme/web")
    for tag in (".latest", "-latest", "lat est", "lat+est", "a" * 129, "é", "latest%00", "a%2Fb", "v1%0A", ""):
        url = f"/v2/acme/web/manifests/{tag}"
        for method in ("GET", "HEAD", "DELETE"):
            answer = await client.request(method, url)
            assert answer.status_code == 404, tag
            assert method == "HEAD" or errors(answer) == ["MANIFEST_UNKNOWN"]
        answer = await client.put(url, content=payload, headers={"content-type": OCI_IMAGE})
        assert (answer.status_code, errors(answer)) == (400, ["TAG_INVALID"]), tag


async def test_a_tag_has_up_to_128_characters(client: httpx.AsyncClient) -> None:
    """0.2 and may begin with an underscore, and have capitals."""
    tags = ["a" * 128, "_", "V1.0-rc_1"]
    payload = await push_image(client, "acme/web", tags=tags)
    for tag in tags:
        assert (await client.get(f"/v2/acme/web/manifests/{tag}")).content == payload


MALFORMED = [
    "sha256:abc",
    "sha256:" + "A" * 64,
    "sha256:" + "g" * 64,
    "sha256:" + "0" * 65,
    "SHA256:" + "0" * 64,
    "sha512:" + "0" * 64,
    "md5:" + "0" * 32,
    "sha256:",
    ":" + "0" * 64,
    "sha256:" + "%EF%BC%90" * 64,  # full-width zeros
    "sha256:..%2f..%2f",
]


async def test_a_malformed_digest_is_refused_wherever_one_is_expected(client: httpx.AsyncClient) -> None:
    """0.2, 0.3, 6.1 DIGEST_INVALID, whatever is asked for."""
    payload = await push_image(client, "acme/web")
    location = await begin_upload(client, "acme/web")
    for digest in MALFORMED:
        for method, url, content in (
            ("GET", f"/v2/acme/web/manifests/{digest}", b""),
            ("PUT", f"/v2/acme/web/manifests/{digest}", payload),
            ("DELETE", f"/v2/acme/web/manifests/{digest}", b""),
            ("GET", f"/v2/acme/web/blobs/{digest}", b""),
            ("DELETE", f"/v2/acme/web/blobs/{digest}", b""),
            ("GET", f"/v2/acme/web/referrers/{digest}", b""),
            ("POST", f"/v2/acme/web/blobs/uploads/?digest={digest}", b"content"),
            ("POST", f"/v2/acme/web/blobs/uploads/?mount={digest}&from=acme/web", b""),
            ("PUT", f"{location}?digest={digest}", b"content"),
        ):
            answer = await client.request(method, url, content=content)
            assert (answer.status_code, errors(answer)) == (400, ["DIGEST_INVALID"]), (method, url)
    assert (await client.get(location)).headers["range"] == "0-0"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_both_algorithms_name_blobs_and_manifests(client: httpx.AsyncClient, algorithm: str) -> None:
    """0.3, 0.7 what is asked for in an algorithm is answered in it."""
    blob = await push_blob(client, "acme/web", CONFIG, algorithm)
    payload = image(config={"mediaType": "application/x", "digest": blob, "size": len(CONFIG)})
    manifest = digest_of(payload, algorithm)
    answer = await put_manifest(client, "acme/web", payload, manifest)
    assert (answer.status_code, answer.headers["docker-content-digest"]) == (201, manifest)
    for url, digest, content in (
        (f"/v2/acme/web/blobs/{blob}", blob, CONFIG),
        (f"/v2/acme/web/manifests/{manifest}", manifest, payload),
    ):
        for method in ("GET", "HEAD"):
            answer = await client.request(method, url)
            assert answer.status_code == 200
            assert answer.headers["docker-content-digest"] == digest
            assert answer.headers["etag"] == f'"{digest}"'
            assert answer.content == (content if method == "GET" else b"")


async def test_a_colon_of_a_digest_may_be_encoded(client: httpx.AsyncClient) -> None:
    """0.3 as some clients escape whole path segments."""
    digest = await push_blob(client, "acme/web", b"content")
    assert (await client.get(f"/v2/acme/web/blobs/{digest.replace(':', '%3A')}")).content == b"content"
    assert (await client.get(f"/v2/acme/web/blobs/{digest.replace(':', '%3a')}")).content == b"content"


async def test_manifests_are_served_as_they_were_pushed(client: httpx.AsyncClient) -> None:
    """0.4 to the byte, however they are written."""
    await push_blob(client, "acme/web", CONFIG)
    odd = b" \n{\n" + image(zebra=[1.50, "\u00e9", None]).lstrip(b"{").replace(b", ", b" ,\t") + b"\r\n "
    await push_manifest(client, "acme/web", odd, "odd")
    answer = await client.get("/v2/acme/web/manifests/odd")
    assert (answer.content, answer.headers["docker-content-digest"]) == (odd, digest_of(odd))


async def test_answers_are_not_compressed(client: httpx.AsyncClient) -> None:
    """0.5 no Content-Encoding, Content-Length on GET and HEAD, the manifest's type without charset."""
    payload = await push_image(client, "acme/web", tags=["v1"])
    blob = digest_of(CONFIG)
    for url, media_type, content in (
        ("/v2/acme/web/manifests/v1", OCI_IMAGE, payload),
        (f"/v2/acme/web/manifests/{digest_of(payload)}", OCI_IMAGE, payload),
        (f"/v2/acme/web/blobs/{blob}", "application/octet-stream", CONFIG),
    ):
        for method in ("GET", "HEAD"):
            answer = await client.request(method, url, headers={"accept-encoding": "gzip, zstd, br"})
            assert answer.headers["content-type"] == media_type
            assert answer.headers["content-length"] == str(len(content))
            assert "content-encoding" not in answer.headers


async def test_the_base_says_that_this_is_a_registry(client: httpx.AsyncClient) -> None:
    """0.6 200 when it may be used."""
    for url in ("/v2", "/v2/"):
        answer = await client.get(url)
        assert (answer.status_code, answer.json()) == (200, {})
        assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
        assert (await client.head(url)).status_code == 200


METHODS = {
    "/v2/": {"GET", "HEAD"},
    "/v2/_catalog": {"GET", "HEAD"},
    "/v2/acme/web/tags/list": {"GET", "HEAD"},
    "/v2/acme/web/manifests/v1": {"GET", "HEAD", "PUT", "DELETE"},
    f"/v2/acme/web/blobs/{ABSENT}": {"GET", "HEAD", "DELETE"},
    "/v2/acme/web/blobs/uploads/": {"POST"},
    "/v2/acme/web/blobs/uploads/1": {"GET", "HEAD", "PATCH", "PUT", "DELETE"},
    f"/v2/acme/web/referrers/{ABSENT}": {"GET", "HEAD"},
}


async def test_other_methods_are_told_which_ones_there_are(client: httpx.AsyncClient) -> None:
    """5.1, 6.1 405 UNSUPPORTED with Allow."""
    for url, allowed in METHODS.items():
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} - allowed:
            answer = await client.request(method, url)
            assert answer.status_code == 405, (method, url)
            assert set(answer.headers["allow"].split(", ")) == allowed
            assert method == "HEAD" or errors(answer) == ["UNSUPPORTED"]


async def test_a_path_that_is_none_of_the_protocols_is_not_found(client: httpx.AsyncClient) -> None:
    """6.1, 6.4 trailing slashes and extensions that are not there included."""
    for path in (
        "/v2/acme/web",
        "/v2/acme/web/tags/list/",
        "/v2/tags/list",
        "/v2/manifests/latest",
        "/v2/acme/web/manifests/v1/",
        "/v2/_catalog/",
        "/v2/_oci/ext/discover",
        "/v2/acme/web/_oci/ext",
        "/v1/_ping",
        "/",
        "/v2x",
    ):
        answer = await client.get(path)
        assert answer.status_code == 404, path
        assert errors(answer)


async def test_an_encoded_slash_separates_nothing(client: httpx.AsyncClient) -> None:
    """0.1 a proxy in front must not read another name in a path than the registry does."""
    await push_image(client, "acme/web", tags=["v1"])
    for url in ("/v2/acme%2Fweb/tags/list", "/v2/acme%2fweb/manifests/v1"):
        answer = await client.get(url)
        assert (answer.status_code, errors(answer)) == (400, ["NAME_INVALID"])
    assert (await client.get("/v2/acme/web%2Fmanifests%2Fv1")).status_code == 404
    assert (await client.get("/v2/acme/web/%6danifests/v1")).status_code == 200


async def test_a_server_that_gives_only_decoded_paths_will_do(raw: Exchange, client: httpx.AsyncClient) -> None:
    """0.1 raw_path is optional in ASGI."""
    await push_image(client, "acme/web", tags=["v1"])
    for path, status in (("/v2/acme/web/tags/list", 200), ("/v2/acme/web/manifests/\udcff\0%41", 404)):
        assert (await raw("GET", b"", path=path)).status == status


async def test_there_is_something_for_those_who_run_it(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "alive"}
    assert (await client.get("/readyz")).json() == {"status": "ready"}


async def test_a_request_leaves_nothing_that_only_a_search_for_circles_finds(raw: Exchange) -> None:
    """Each had 4 KB that stayed until the search, which took a twelfth of the CPU."""
    await raw("GET", "/v2/")
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await raw("GET", "/v2/")
        gc.collect()
        assert not [kept for kept in gc.garbage if isinstance(kept, Request)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
