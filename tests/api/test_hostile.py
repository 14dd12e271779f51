"""HAZARDS, "Parsing and denial of service": whatever is sent is answered soon, in little memory, and breaks nothing."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from typing import Any
from urllib.parse import quote, quote_from_bytes
from uuid import uuid4

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.contents import (
    ABSENT,
    CONFIG,
    OCI_IMAGE,
    OCI_INDEX,
    described,
    digest_of,
    errors,
    image,
    push_blob,
    push_image,
    put_manifest,
)
from tests.api.exchange import Answer, Body, Exchange, cut, truncated, whole

URL = "/v2/acme/web/manifests/"
SOON_S = 10  # far less on a machine that has nothing else to do

SPECIAL = [
    "..",
    "../../etc/passwd",
    "%2f",
    "%00",
    "\0",
    "'",
    '"',
    "\\",
    "'; drop table tags; --",
    "{{7*7}}",
    "$(id)",
    "\r\nx: y",
    "\uff10\uff11",
    "e\u0301",
    "\u00e9",
    "\ud800",
    "\ufeff",
    "%",
    "%%(x)s",
    "a" * 10_000,
    "'\\\0" * 3_000,
    "SHA256:" + "0" * 64,
    "sha256:..%2f",
    "sha256:" + "\uff10" * 64,
    "-1",
    "1e30",
    "NaN",
    "9" * 5000,
]
PLAIN = ["acme/web", "x", "v1", "2", "a/b", ABSENT, digest_of(CONFIG), digest_of(image()), "sha512", str(uuid4()), ""]
texts = st.one_of(st.sampled_from(PLAIN), st.sampled_from(SPECIAL), st.text(max_size=30))
names = st.one_of(st.just("acme/web"), texts)
nouns = [
    "tags/list",
    "manifests/{}",
    "blobs/{}",
    "blobs/uploads/",
    "blobs/uploads/{}",
    "referrers/{}",
    "_catalog",
    "{}",
]
parameters = ["n", "last", "digest", "mount", "from", "digest-algorithm", "artifactType", "tag", "ns"]
headers = [
    "range",
    "content-range",
    "content-length",
    "content-type",
    "if-none-match",
    "if-range",
    "accept",
    "expect",
    "transfer-encoding",
    "user-agent",
    "x-request-id",
    "authorization",
]
values = st.one_of(
    st.sampled_from(
        ["bytes=0-", "bytes=9-1", "0-9", "5-2", "10", "-1", "100-continue", "chunked", OCI_IMAGE, OCI_INDEX, "*"]
    ),
    st.text(st.characters(max_codepoint=255), max_size=40),
    st.just("\xff" * 10_000),
)
payloads = st.one_of(
    st.binary(max_size=100),
    st.sampled_from([image(), b"{}", b"[]", b"null", b'{"schemaVersion":2}', b"0" * 5000, b"[" * 5000]),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), texts),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "size"]),
                inner,
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)
several = settings(
    deadline=None, max_examples=2 * settings().max_examples // 5, suppress_health_check=list(HealthCheck)
)


def escaped(text: str, *, safe: str = "/") -> str:
    return quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe=safe)


async def assert_fine(answer: Answer, method: str) -> None:
    assert 200 <= answer.status < 500, answer.body[:500]
    assert b"Traceback" not in answer.body
    assert b"psycopg" not in answer.body
    for value in answer.headers.values():
        assert "\r" not in value
        assert "\n" not in value
    if method != "HEAD" and answer.status not in {204, 304}:
        assert answer.headers["content-length"] == str(len(answer.body))
    if answer.status >= 400 and method != "HEAD":
        assert all(answer.codes)


@several
@given(data=st.data())
async def test_no_route_breaks_over_what_is_written_to_it(raw: Exchange, data: st.DataObject) -> None:
    """Hazard SQL, names: quotes, backslashes, NULs, surrogates and 10 kB in every place and method: no 500."""
    method = data.draw(st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]))
    noun = data.draw(st.sampled_from(nouns))
    path = f"/v2/{escaped(data.draw(names))}/{noun.format(escaped(data.draw(texts)))}"
    fields = data.draw(st.lists(st.tuples(st.sampled_from(parameters) | texts, texts), max_size=4))
    query = "&".join(f"{escaped(name, safe='')}={escaped(value, safe='')}" for name, value in fields)
    sent = data.draw(st.dictionaries(st.sampled_from(headers), values, max_size=3))
    body = data.draw(payloads)
    make_body = data.draw(st.sampled_from([whole, cut, truncated]))
    started = time.monotonic()
    answer = await raw(method, f"{path}?{query}", headers=sent, body=make_body(body))
    await assert_fine(answer, method)
    assert time.monotonic() - started < SOON_S


@several
@given(target=st.binary(max_size=60), method=st.sampled_from(["GET", "PUT", "POST", "\u00e9", ""]))
async def test_no_path_or_query_breaks_the_routes(raw: Exchange, target: bytes, method: str) -> None:
    """Hazard names: raw bytes as a careless server passes them on."""
    for prefix in (b"/v2/", b"/v2/acme/web/manifests/", b"/v2/acme/web/tags/list?", b""):
        await assert_fine(await raw(method, prefix + target, body=whole(target)), method)


@several
@given(body=payloads, media_type=st.sampled_from([OCI_IMAGE, OCI_INDEX, "a/b", "application/json"]) | values)
async def test_no_manifest_breaks_the_registry(
    client: httpx.AsyncClient, raw: Exchange, body: bytes, media_type: str
) -> None:
    """Hazard CVE-2017-11468: what is no manifest is 400; what is one comes back as it was."""
    answer = await raw("PUT", f"{URL}{digest_of(body)}", headers={"content-type": media_type}, body=whole(body))
    await assert_fine(answer, "PUT")
    if answer.status == 201:
        assert (await client.get(URL + digest_of(body))).content == body


@settings(several, max_examples=15)
@given(data=st.data())
async def test_no_order_of_requests_breaks_a_session(raw: Exchange, data: st.DataObject) -> None:
    """Hazard: an upload's answers are of its protocol, and its bytes those that were acknowledged."""
    begun = await raw("POST", "/v2/acme/web/blobs/uploads/")
    location, content = begun.headers["location"], b"01"
    await raw("PATCH", location, body=whole(content))  # "Range: 0-0" is said of one byte and of none
    for _ in range(data.draw(st.integers(1, 4))):
        method = data.draw(st.sampled_from(["PATCH", "PATCH", "PUT", "GET"]))
        sent = data.draw(st.dictionaries(st.sampled_from(headers), values, max_size=2))
        piece = data.draw(st.binary(max_size=20))
        answer = await raw(method, f"{location}?digest={ABSENT}", headers=sent, body=whole(piece))
        await assert_fine(answer, method)
        stands = await raw("GET", location)
        length = int(stands.headers["range"].removeprefix("0-")) + 1
        assert answer.status != 202 or length == len(content) + len(piece)
        content += piece[: length - len(content)]
    closing = await raw("PUT", f"{location}?digest={digest_of(content)}", body=whole())
    assert closing.status == 201


async def test_json_that_is_no_manifest_is_refused(client: httpx.AsyncClient) -> None:
    """Hazard CVE-2017-11468: depth, duplicates, huge numbers, NaN, bad UTF-8, surrogates, a million entries: 400."""
    await push_blob(client, "acme/web", CONFIG)
    nested = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    for payload in (
        nested,
        b"[" * 1_000_000,
        image() + b"{}",
        image().replace(b'"schemaVersion": 2', b'"schemaVersion": 2, "schemaVersion": 2'),
        image(number=0).replace(b'"number": 0', b'"number": ' + b"9" * 1_000_000),
        image(number=0).replace(b'"number": 0', b'"number": 1e999999999'),
        image(number=0).replace(b'"number": 0', b'"number": NaN'),
        image(number=0).replace(b'"number": 0', b'"number": -Infinity'),
        image(text="x").replace(b'"x"', b'"\xff\xfe"'),
        image(text="x").replace(b'"x"', b'"\xed\xa0\x80"'),
        image(annotations={"a": "\ud800"}),
        image(annotations={"a": "\0"}),
        b"\xef\xbb\xbf" + image(),
        image().decode().encode("utf-16"),
        b'{"schemaVersion":2,"layers":[' + b"{}," * 1_000_000 + b"{}]}",
        image(layers=[{"mediaType": "a/b", "digest": "sha256:..%2f", "size": 1}]),
        image(layers=[described(b"x", "a/b") | {"size": -1}]),
        image(layers=[described(b"x", "a/b") | {"size": 2**63}]),
        b"",
        b"\0",
    ):
        started = time.monotonic()
        answer = await put_manifest(client, "acme/web", payload, "v1", media_type=OCI_IMAGE)
        assert (answer.status_code, errors(answer)) == (400, ["MANIFEST_INVALID"]), payload[:80]
        assert len(answer.content) < 2000
        assert time.monotonic() - started < SOON_S


async def test_as_many_references_as_fit_are_looked_up_at_once(client: httpx.AsyncClient) -> None:
    """Hazard CVE-2017-11468: a huge index is answered in one statement, and every digest is listed."""
    await push_blob(client, "acme/web", CONFIG)
    children = [{"mediaType": "a/b", "digest": digest_of(b"%d" % number), "size": 1} for number in range(20_000)]
    payload = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}).encode()
    started = time.monotonic()
    answer = await put_manifest(client, "acme/web", payload, "v1")
    assert (answer.status_code, errors(answer)) == (400, ["MANIFEST_BLOB_UNKNOWN"])
    assert len(answer.json()["errors"][0]["detail"]) == len(children)
    assert time.monotonic() - started < 3 * SOON_S


async def test_memory_stays_flat_under_bodies_that_are_too_large(raw: Exchange) -> None:
    """Hazard CVE-2017-11468: 413 for a manifest that never ends; nothing of what is read further is kept."""
    piece = b" " * 2**18

    async def endless() -> Body:
        while True:
            yield {"type": "http.request", "body": piece, "more_body": True}

    tracemalloc.start()
    try:
        answer = await raw("PUT", f"{URL}v1", headers={"transfer-encoding": "chunked"}, body=endless())
        announced = await raw("PUT", f"{URL}v1", headers={"content-length": str(10**15)}, body=endless())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    for each in (answer, announced):
        assert (each.status, each.codes) == (413, ["MANIFEST_INVALID"])
        assert each.received * len(piece) < 80 * 1024**2
    assert peak < 32 * 1024**2


async def test_a_foreign_layers_address_is_never_asked(client: httpx.AsyncClient) -> None:
    """Hazard GHSA-742w-89gc-8m9c: urls are kept for clients, and nobody here goes there."""
    visits: list[Any] = []
    server = await asyncio.start_server(lambda *streams: visits.append(streams), "127.0.0.1")
    async with server:
        address = "http://{}:{}/layer".format(*server.sockets[0].getsockname()[:2])
        await push_blob(client, "acme/web", CONFIG)
        foreign = described(b"x", "application/vnd.oci.image.layer.nondistributable.v1.tar", urls=[address])
        payload = image(layers=[foreign])
        assert (await put_manifest(client, "acme/web", payload, "v1")).status_code == 201
        assert (await client.get(f"{URL}v1")).content == payload
        assert (await client.get(f"/v2/acme/web/blobs/{digest_of(b'x')}")).status_code == 404
    assert visits == []


async def test_names_that_could_lead_elsewhere_lead_nowhere(client: httpx.AsyncClient, raw: Exchange) -> None:
    """Hazard names: .., encoded slashes and NULs, capitals, full-width digits, both normal forms, 256 characters."""
    await push_image(client, "acme/web", tags=["v1"])
    for name in (
        "..",
        "acme/..",
        "acme/../acme/web",
        "acme%2fweb",
        "acme/web%00",
        "Acme/Web",
        "acme/\uff11",
        "./acme/web",
    ):
        for text in (name, quote(name)):
            answer = await raw("GET", f"/v2/{text}/manifests/v1")
            assert (answer.status, answer.codes) == (400, ["NAME_INVALID"]), name
    for name in ("acme/caf\u00e9", "acme/cafe\u0301", "a" * 256, "acme/" + "b" * 251):
        answer = await raw("GET", f"/v2/{quote(name)}/tags/list")
        assert (answer.status, answer.codes) == (400, ["NAME_INVALID"])


async def test_a_thousand_parameters_are_too_many(client: httpx.AsyncClient, raw: Exchange) -> None:
    """Hazard: a query of any length is refused before it is taken apart into memory."""
    await push_image(client, "acme/web", tags=["v1"])
    answer = await raw("GET", "/v2/acme/web/tags/list?" + "&".join(["n=1"] * 1000))
    assert (answer.status, answer.codes) == (414, ["UNSUPPORTED"])
