"""Bodies that stop, lie about their length, or are still being sent when the answer is clear (PROTOCOL 2.13)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.server.processes import Serve, wait_until
from tests.server.pushes import begin, content, digest_of, image, put_manifest
from tests.server.wire import Answer, Wire, chunk

HALF = 300_000
DATA = content("bodies", 2 * HALF)


@pytest.fixture
def session(shared_serve: Serve) -> str:
    with shared_serve.client() as client:
        return begin(client, "acme/bodies")


def stop_in_length(wire: Wire, method: str, path: str) -> None:
    wire.request(method, path, [f"Content-Length: {len(DATA)}"])
    wire.send(DATA[:HALF])


def stop_in_chunks(wire: Wire, method: str, path: str) -> None:
    wire.request(method, path, ["Transfer-Encoding: chunked"])
    wire.send(chunk(DATA[: HALF // 2]) + chunk(DATA[HALF // 2 : HALF]))


def stop_in_a_chunk(wire: Wire, method: str, path: str) -> None:
    wire.request(method, path, ["Transfer-Encoding: chunked"])
    wire.send(chunk(DATA[: HALF - 1]) + b"%x\r\n" % HALF + DATA[HALF - 1 : HALF])


STOPS = pytest.mark.parametrize("stop", [stop_in_length, stop_in_chunks, stop_in_a_chunk])
Stop = Callable[[Wire, str, str], None]


def state(port: int, session: str) -> Answer:
    with Wire(port) as asking:
        return asking.ask("GET", session)


def settled(port: int, session: str, *, offset: int) -> bool:
    answer = state(port, session)
    return answer.status == 204 and answer.offset == offset


def assert_resumable(port: int, session: str) -> None:
    """What arrived is kept, nothing is a blob, and the rest completes it."""
    digest = digest_of(DATA)
    with Wire(port) as resuming:
        assert resuming.ask("HEAD", f"/v2/acme/bodies/blobs/{digest}").status == 404
        offset = resuming.ask("GET", session).offset
        assert offset <= HALF
        rest = DATA[offset:]
        chunk_range = f"Content-Range: {offset}-{len(DATA) - 1}"
        assert resuming.ask("PUT", f"{session}?digest={digest}", [chunk_range], rest).status == 201
        assert resuming.ask("GET", f"/v2/acme/bodies/blobs/{digest}").body == DATA
        assert resuming.ask("DELETE", f"/v2/acme/bodies/blobs/{digest}").status == 202


@STOPS
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_client_that_goes_away(shared_serve: Serve, wire: Wire, session: str, stop: Stop, method: str) -> None:
    """The session keeps what arrived and tells so in Range; no blob comes to be, even with the digest of the part."""
    part = digest_of(DATA[:HALF])
    stop(wire, method, f"{session}?digest={part}" if method == "PUT" else session)
    wire.close()
    wait_until(lambda: settled(shared_serve.port, session, offset=HALF), what="the session's offset")
    with Wire(shared_serve.port) as asking:
        assert asking.ask("HEAD", f"/v2/acme/bodies/blobs/{part}").status == 404
    assert_resumable(shared_serve.port, session)


@STOPS
def test_a_client_that_hangs(shared_serve: Serve, wire: Wire, session: str, stop: Stop) -> None:
    """After body_timeout it hears that its body is short; what it sent is kept, and the connection isn't used again."""
    stop(wire, "PATCH", session)
    answer = wire.answer()
    assert (answer.status, answer.code) == (408, "SIZE_INVALID")
    assert wire.is_closed()
    assert state(shared_serve.port, session).offset == HALF
    assert_resumable(shared_serve.port, session)


@STOPS
def test_a_manifest_that_stops(shared_serve: Serve, wire: Wire, stop: Stop) -> None:
    """No manifest, no tag, no repository."""
    stop(wire, "PUT", "/v2/acme/half/manifests/latest")
    wire.half_close()
    with Wire(shared_serve.port) as asking:
        assert asking.ask("GET", "/v2/acme/half/tags/list").status == 404


@STOPS
def test_a_whole_blob_that_stops(shared_serve: Serve, wire: Wire, stop: Stop) -> None:
    """POST with a digest is one request: nothing of it stays when it is cut."""
    part = digest_of(DATA[:HALF])
    stop(wire, "POST", f"/v2/acme/bodies/blobs/uploads/?digest={part}")
    wire.close()
    with Wire(shared_serve.port) as asking:
        assert asking.ask("HEAD", f"/v2/acme/bodies/blobs/{part}").status == 404


def test_a_slow_client_is_no_hung_client(wire: Wire, session: str) -> None:
    """body_timeout is between two pieces, not for the whole body."""
    wire.request("PATCH", session, ["Content-Length: 8"])
    wire.trickle([b"x"] * 8, pause=0.4)
    answer = wire.answer()
    assert (answer.status, answer.offset) == (202, 8)


def test_expect_continue_is_answered(wire: Wire, session: str) -> None:
    """A client that waits for a 100 gets it when the registry wants the body."""
    wire.request("PUT", f"{session}?digest={digest_of(b'hello')}", ["Content-Length: 5", "Expect: 100-continue"])
    assert wire.head()[0] == 100
    wire.send(b"hello")
    assert wire.answer().status == 201


def test_expect_continue_is_refused_before_the_body(wire: Wire, shared_serve: Serve) -> None:
    """A client that waits for a 100 hears the error instead, and sends nothing."""
    wire.request("PUT", "/v2/acme/bodies/manifests/x", ["Content-Length: 99999999", "Expect: 100-continue"])
    status, headers = wire.head()
    assert status == 413
    assert b"MANIFEST_INVALID" in wire.take(int(headers["content-length"]))


LARGE = 20 * 1024**2
REFUSED = {
    "a manifest over the limit": ("PUT", "/v2/acme/bodies/manifests/latest", 413, "MANIFEST_INVALID"),
    "an unknown session": (
        "PUT",
        f"/v2/acme/bodies/blobs/uploads/{'0' * 8}-0000-4000-8000-{'0' * 12}?digest=sha256:{'0' * 64}",
        404,
        "BLOB_UPLOAD_UNKNOWN",
    ),
    "a malformed digest": ("POST", "/v2/acme/bodies/blobs/uploads/?digest=sha256:nonsense", 400, "DIGEST_INVALID"),
    "a malformed name": ("POST", f"/v2/ACME/blobs/uploads/?digest=sha256:{'0' * 64}", 400, "NAME_INVALID"),
    "another method": ("POST", "/v2/acme/bodies/tags/list", 405, "UNSUPPORTED"),
    "no such path": ("PUT", "/v1/", 404, "UNSUPPORTED"),
}


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED.keys())
def test_an_error_is_readable_while_sending(
    shared_serve: Serve, refused: tuple[str, str, int, str], chunked: bool
) -> None:
    """A client that sends its whole body before it listens hears the true answer, and may go on with the connection."""
    method, path, status, code = refused
    with Wire(shared_serve.port) as wire:
        if chunked:
            wire.request(method, path, ["Transfer-Encoding: chunked"])
            wire.send(chunk(b"\0" * LARGE) + b"0\r\n\r\n")
        else:
            wire.request(method, path, body=b"\0" * LARGE)
        answer = wire.answer()
        assert (answer.status, answer.code) == (status, code)
        assert wire.ask("GET", "/v2/").status == 200


def test_a_wrong_digest_is_readable_while_sending(wire: Wire, session: str) -> None:
    """400 after the whole body; the session stands where it stood."""
    answer = wire.ask("PUT", f"{session}?digest=sha256:{'0' * 64}", body=b"\0" * LARGE)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert wire.ask("PUT", f"{session}?digest={digest_of(b'x')}", body=b"x").status == 201


def test_an_error_with_an_endless_body(shared_serve: Serve) -> None:
    """What is drained is bounded: a client that never ends is cut off."""
    with Wire(shared_serve.port) as wire:
        wire.request("PUT", "/v2/acme/bodies/manifests/latest", ["Transfer-Encoding: chunked"])
        sent = wire.send_until_refused(chunk(b"\0" * (1 << 20)), times=1000)
        assert sent < 200


def test_chunked_manifest(shared_serve: Serve) -> None:
    """A manifest may come in chunks, as may every body."""
    made = image("chunked", layers=0)
    with shared_serve.client() as client, Wire(shared_serve.port) as wire:
        session = begin(client, "acme/chunked")
        wire.request("PUT", f"{session}?digest={digest_of(made.config)}", ["Transfer-Encoding: chunked"])
        wire.send(chunk(made.config) + chunk(b""))
        assert wire.answer().status == 201
        wire.request(
            "PUT",
            "/v2/acme/chunked/manifests/latest",
            ["Transfer-Encoding: chunked", "Content-Type: application/vnd.oci.image.manifest.v1+json"],
        )
        wire.send(b"".join(chunk(made.manifest[at : at + 7]) for at in range(0, len(made.manifest), 7)) + chunk(b""))
        assert wire.answer().status == 201
        assert put_manifest(client, "acme/chunked", "again", made).status_code == 201


@pytest.mark.parametrize("lie", ["Content-Length: 5\r\nContent-Length: 6", "Content-Length: -1", "Content-Length: 5x"])
def test_a_length_that_can_not_be_true(wire: Wire, session: str, lie: str) -> None:
    """Refused by the web server, before anything is read: 400."""
    wire.request("PATCH", session, [lie])
    wire.send(b"hello")
    assert wire.answer().status == 400


def test_length_and_chunks_together(shared_serve: Serve, wire: Wire, session: str) -> None:
    """Request smuggling (RFC 9112, 6.1): what a proxy might read otherwise is refused, and the connection ends."""
    wire.request("PATCH", session, ["Content-Length: 3", "Transfer-Encoding: chunked"])
    wire.send(chunk(b"hello") + chunk(b""))
    assert wire.answer().status == 400
    assert wire.is_closed()
    assert state(shared_serve.port, session).headers["range"] == "0-0"
