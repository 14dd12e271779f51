"""Connections: kept, pipelined, idle, slow, old, and with too much in front of the body."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from tests.server.processes import Serve
from tests.server.pushes import Image, content, digest_of, image, push
from tests.server.wire import Wire

NAME = "acme/connections"


@pytest.fixture(scope="module")
def pushed(shared_serve: Serve) -> Image:
    made = image("connections", layers=1, length=400_000)
    with shared_serve.client() as client:
        push(client, NAME, "latest", made)
    return made


def test_requests_after_errors(wire: Wire, pushed: Image) -> None:
    """An error is no reason to close a connection."""
    for path, status in [
        (f"/v2/{NAME}/manifests/none", 404),
        ("/v2/ACME/manifests/latest", 400),
        (f"/v2/{NAME}/tags/list?n=-1", 400),
        (f"/v2/{NAME}/blobs/sha256:00", 400),
        (f"/v2/{NAME}/manifests/latest", 200),
    ]:
        answer = wire.ask("GET", path)
        assert answer.status == status
        assert len(answer.body) == int(answer.headers["content-length"])


def test_pipelined_requests(wire: Wire, pushed: Image) -> None:
    """Requests sent without waiting are answered in their order, errors among them."""
    asked = [("GET", "manifests/latest", 200), ("GET", "manifests/none", 404), ("HEAD", "manifests/latest", 200)] * 10
    for method, path, _ in asked:
        wire.request(method, f"/v2/{NAME}/{path}")
    assert [wire.answer(method).status for method, _, _ in asked] == [status for _, _, status in asked]


def test_a_pipelined_request_behind_a_refused_body(wire: Wire, pushed: Image) -> None:
    """The body of a refused request isn't taken for the next request."""
    wire.request("PUT", f"/v2/{NAME}/blobs/uploads/nonsense?digest=sha256:00", body=b"GET / HTTP/1.1\r\n\r\n" * 5000)
    wire.request("GET", f"/v2/{NAME}/manifests/latest")
    assert wire.answer().status == 400
    assert wire.answer().body == pushed.manifest


@pytest.mark.parametrize("which", ["manifest", "large blob", "small blob", "missing", "base"])
def test_head_over_a_socket(wire: Wire, pushed: Image, which: str) -> None:
    """HEAD tells the length that GET would have, sends no body, and leaves the connection usable (PROTOCOL 0.5)."""
    path = {
        "manifest": f"/v2/{NAME}/manifests/latest",
        "large blob": f"/v2/{NAME}/blobs/{digest_of(pushed.layers[0])}",
        "small blob": f"/v2/{NAME}/blobs/{digest_of(pushed.config)}",
        "missing": f"/v2/{NAME}/manifests/none",
        "base": "/v2/",
    }[which]
    head = wire.ask("HEAD", path)
    answer = wire.ask("GET", path)
    assert head.status == answer.status
    assert head.headers["content-length"] == answer.headers["content-length"] == str(len(answer.body))
    assert {**head.headers, "date": ""} == {**answer.headers, "date": ""}


def test_ranges_over_a_socket(wire: Wire, pushed: Image) -> None:
    """A part of a blob that is sent as a file otherwise (PROTOCOL 1.2)."""
    layer = pushed.layers[0]
    path = f"/v2/{NAME}/blobs/{digest_of(layer)}"
    for text, start, stop in [("100-299999", 100, 300_000), ("-5", len(layer) - 5, len(layer)), ("7-", 7, len(layer))]:
        answer = wire.ask("GET", path, [f"Range: bytes={text}"])
        assert (answer.status, answer.body) == (206, layer[start:stop])
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(layer)}"
    answer = wire.ask("GET", path, [f"Range: bytes={len(layer)}-"])
    assert (answer.status, answer.headers["content-length"]) == (416, str(len(answer.body)))
    assert wire.ask("GET", path).body == layer


@pytest.mark.parametrize("keep", [False, True])
def test_http_1_0(wire: Wire, pushed: Image, keep: bool) -> None:
    """An old client gets the same content, and its connection is closed unless it asks otherwise."""
    path = f"/v2/{NAME}/blobs/{digest_of(pushed.layers[0])}"
    wire.request("GET", path, ["Connection: keep-alive"] if keep else (), version="1.0")
    answer = wire.answer()
    assert (answer.status, answer.body) == (200, pushed.layers[0])
    if keep:
        assert wire.ask("GET", "/v2/").status == 200
    else:
        assert wire.is_closed()


def test_many_headers(wire: Wire) -> None:
    """A hundred headers are too many or not, but never a 500 and never a hang."""
    wire.request("GET", "/v2/", [f"X-{number}: {number}" for number in range(90)])
    assert wire.answer().status == 200
    wire.request("GET", "/v2/", [f"X-{number}: {number}" for number in range(1000)])
    assert wire.answer().status == 431
    assert wire.is_closed()


def test_headers_without_end(shared_serve: Serve, wire: Wire) -> None:
    """What stands before the body is bounded, whoever sends it."""
    wire.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n")
    assert wire.send_until_refused(b"X-Large: " + b"x" * 100_000 + b"\r\n", times=100) < 100


def test_a_long_request_line(wire: Wire) -> None:
    """100 kB of path: refused with a 4xx, the server lives on."""
    wire.request("GET", "/v2/" + "a" * 100_000 + "/manifests/latest")
    assert 400 <= wire.answer().status < 500


def test_a_long_query(wire: Wire, pushed: Image) -> None:
    """10 kB of query are no reason to fail."""
    assert wire.ask("GET", f"/v2/{NAME}/manifests/latest?{'x' * 10_000}").status == 200


GARBAGE = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "words": b"NONSENSE\r\n\r\n",
    "NULs": b"\0" * 999,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_what_is_no_http(shared_serve: Serve, wire: Wire, garbage: bytes) -> None:
    """TLS on the plain port, and noise: the connection ends, the server doesn't."""
    wire.send(garbage)
    wire.rest()
    with Wire(shared_serve.port) as other:
        assert other.ask("GET", "/v2/").status == 200


def test_slow_headers(wire: Wire) -> None:
    """A client on a bad line, one byte now and then, is served."""
    request = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
    wire.trickle([request[at : at + 3] for at in range(0, len(request), 3)], pause=0.05)
    assert wire.answer().status == 200


def test_idle_connections(shared_serve: Serve, pushed: Image) -> None:
    """A hundred connections that say nothing, or half a head, keep nobody else waiting."""
    with ExitStack() as stack:
        idle = [stack.enter_context(Wire(shared_serve.port)) for _ in range(100)]
        for connection in idle[::2]:
            connection.send(b"GET /v2/ HT")
        began = time.monotonic()
        with Wire(shared_serve.port) as busy:
            for _ in range(20):
                assert busy.ask("GET", f"/v2/{NAME}/manifests/latest").body == pushed.manifest
        assert time.monotonic() - began < 5
        for connection in idle[::2]:
            connection.send(b"TP/1.1\r\nHost: x\r\n\r\n")
        assert {connection.answer().status for connection in idle[::2]} == {200}


def test_a_reader_that_stops_reading(shared_serve: Serve, pushed: Image) -> None:
    """Downloads that nobody takes keep nobody else waiting, and what was begun can be read on later."""
    large = content("stalled", 8 * 1024**2)
    with shared_serve.client() as client, ExitStack() as stack:
        made = Image(b"{}", (large,))
        push(client, NAME, "stalled", made)
        stalled = [stack.enter_context(Wire(shared_serve.port, buffer=4096)) for _ in range(20)]
        for connection in stalled:
            connection.request("GET", f"/v2/{NAME}/blobs/{digest_of(large)}")
        for _ in range(20):
            assert client.get(f"/v2/{NAME}/manifests/latest").content == pushed.manifest
        assert stalled[0].answer().body == large
