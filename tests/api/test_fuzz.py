"""A fuzz run over every route of the route table, with hostile paths, headers, queries and bodies (issue 4, item 6).

`test_hostile.py` has what is known to have broken registries; here is what nobody has thought of.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote_from_bytes
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distsql.api.application import Application
from distsql.values import ASGIMessage
from tests.api.contents import ABSENT, CONFIG, OCI_IMAGE, OCI_INDEX, begin_upload, digest_of, image, push_image
from tests.api.route_table import Route, list_routes

ROUTES: Final = list_routes()
SOON_S: Final = 10  # far less on a machine that has nothing else to do
PUSHED: Final = image()

# -- what stands where a name, a reference or a number is expected ----------------------------------------------------

GOOD: Final = ["acme/web", "x", "v1", ABSENT, digest_of(CONFIG), digest_of(PUSHED), str(uuid4()), "1"]
BAD: Final[list[bytes]] = [
    *(b"", b".", b"..", b"...", b"/", b"//", b"\\", b"~", b"*", b"'", b'"', b"`", b";", b"--", b"\0", b"\r\n", b"\n"),
    *(
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xef\xbb\xbf",
        b"\xe2\x80\xae",
        b"\x7f",
        b"\x1b[2J",
    ),
    *map(str.encode, ("\uff10\uff11", "\u0661", "\u00b2", "e\u0301", "\u00e9", "\u0130", "\u00df", "\U0001f4a9")),
    *(b"%", b"%%", b"%s%n", b"%00", b"%2e%2e%2f", b"%252e", b"%u0041", b"{0}", b"{{7*7}}", b"${x}", b"$(id)"),
    *(b"-1", b"+1", b" 1", b"1 ", b"0x10", b"1_000", b"1e30", b"NaN", b"inf", b"9" * 400, b"9" * 5000, b"-0", b"00"),
    *(b"true", b"null", b"None", b"[]", b"{}", b"2147483648", b"9223372036854775808", b"18446744073709551616"),
    *(b"a" * 129, b"a" * 256, b"a/" * 200, b"a" * 9000, b"sha256:", b":", b"a:b", b"sha256:" + b"0" * 63, b"@", b"a@b"),
    *(b"SHA256:" + b"0" * 64, b"sha256:" + "\uff10".encode() * 64, b"sha512:" + b"0" * 128, b"md5:" + b"0" * 32),
    *(b"blobs", b"uploads", b"manifests", b"tags", b"list", b"referrers", b"_catalog", b"_distsql", b"_x"),
]
raw_values = st.one_of(
    st.sampled_from(GOOD).map(str.encode),
    st.sampled_from(BAD),
    st.binary(max_size=12),
    st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass")),
)


@st.composite
def targets(draw: st.DrawFn, route: Route) -> bytes:
    """The route's path with a value in each place, mostly good ones, escaped or as careless clients send it."""
    values = []
    for place in route.places:
        good = {"name": b"acme/web"}.get(place)
        value = good if good and draw(st.integers(0, 3)) else draw(raw_values)
        escape = draw(st.sampled_from(["/", "/:", ""]) | st.none())
        values.append(value.decode("latin-1") if escape is None else quote_from_bytes(value, safe=escape))
    path = route.fill(*values).encode("latin-1")
    return path + draw(st.sampled_from([b"", b"", b"", b"", b"/", b"//", b"/..", b"%2F", b"%00", b"#", b";v=1"]))


# -- queries, headers, bodies -----------------------------------------------------------------------------------------

PARAMETERS: Final = [
    *("n", "last", "digest", "mount", "from", "digest-algorithm", "artifactType", "tag", "ns", "force", "at", "after"),
]


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """Well-formed with hostile values, the same name many times, or no query at all in any sense."""
    shape = draw(st.integers(0, 5))
    if shape == 0:
        return draw(st.binary(max_size=40))
    if shape == 1:
        name = draw(st.sampled_from(PARAMETERS))
        return b"&".join([f"{name}={number}".encode() for number in range(draw(st.sampled_from([2, 101, 499, 501])))])
    pairs = draw(st.lists(st.tuples(st.sampled_from(PARAMETERS), raw_values), max_size=4))
    return "&".join(f"{name}={quote_from_bytes(value, safe='')}" for name, value in pairs).encode()


HEADERS: Final = [
    *("range", "content-range", "content-length", "content-type", "transfer-encoding", "content-encoding", "expect"),
    *("if-none-match", "if-match", "if-range", "accept", "accept-encoding", "host", "connection", "upgrade"),
    *("user-agent", "x-request-id", "authorization", "cookie", "x-forwarded-for", "x-forwarded-proto", "forwarded"),
    *("te", "trailer", "origin", "referer", "x-http-method-override", "docker-content-digest", "oci-subject"),
]
header_values = st.one_of(
    raw_values,
    st.sampled_from(
        [
            *(
                b"bytes=0-",
                b"bytes=-1",
                b"bytes=9-1",
                b"bytes=" + b"9" * 400 + b"-",
                b"bytes=0-0,2-3" * 100,
                b"0-9",
                b"9-0",
            ),
            *(b"chunked", b"gzip, chunked", b"100-continue", b"*", b'W/"x"', b'"' * 999, OCI_IMAGE.encode()),
            *(
                OCI_INDEX.encode() + b";q=" + b"9" * 500,
                b"text/html; charset=\xff",
                b"Basic !!!",
                b"Bearer " + b"." * 900,
            ),
        ]
    ),
)
# Of the same name several times, too: a sequence and no mapping.
headers = st.lists(st.tuples(st.sampled_from(HEADERS), header_values), max_size=5)

NESTED: Final = [b"[" * 5000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"manifests":[' + b"{}," * 9999 + b"{}]}"]
documents = st.sampled_from(
    [
        *(
            PUSHED,
            PUSHED[:-1],
            PUSHED + b"x",
            b"",
            b"{}",
            b"[]",
            b"null",
            b"0",
            b'"',
            b"\0",
            b"\xff\xfe",
            b"\xef\xbb\xbf{}",
        ),
        *(b'{"schemaVersion":1e999}', b'{"schemaVersion":NaN}', b'{"schemaVersion":2,"schemaVersion":2}', *NESTED),
        *(b'{"schemaVersion":1,"signatures":[{"protected":"!","signature":""}]}', b'{"\\ud800":"\\u0000"}', CONFIG),
        b'{"schemaVersion":2,"config":{"mediaType":"a/b","size":-1,"digest":"x"},"layers":[[]]}',
    ]
)
pieces = st.lists(documents | st.binary(max_size=50), max_size=3)


# -- the run ----------------------------------------------------------------------------------------------------------


@contextmanager
def quiet_log() -> Iterator[None]:
    """Nothing is logged as an error while this lasts, and no traceback at all."""
    said: list[logging.LogRecord] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info or record.levelno >= logging.ERROR:
                said.append(record)

    listener = Listener()
    logging.getLogger().addHandler(listener)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(listener)
    assert [f"{record.getMessage()} {record.exc_info}" for record in said] == []


async def send(
    application: Application,
    method: str,
    target: bytes,
    fields: list[tuple[str, bytes]],
    body: list[bytes],
    *,
    ends: bool,
) -> tuple[int, dict[str, bytes], bytes]:
    """As `exchange` does, but with headers that come more than once, in bytes."""
    messages = iter([{"type": "http.request", "body": piece, "more_body": True} for piece in body])
    sent: list[ASGIMessage] = []

    async def receive() -> ASGIMessage:
        last = {"type": "http.request"} if ends else {"type": "http.disconnect"}
        return next(messages, last)

    async def collect(message: ASGIMessage) -> None:
        sent.append(message)

    path, _, query = target.partition(b"?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path.decode("utf-8", "replace"),
        "raw_path": path,
        "query_string": query,
        "headers": [(name.encode(), value) for name, value in fields],
        "client": ("192.0.2.1", 40000),
    }
    await application(scope, receive, collect)
    opening, *rest = sent
    found = {name.decode(): value for name, value in opening["headers"]}
    return opening["status"], found, b"".join(each.get("body", b"") for each in rest)


def test_every_route_is_found() -> None:
    """The table is read, not remembered; this is what there was when this test was written."""
    assert {str(route) for route in ROUTES} >= {
        "GET /v2/",
        "GET /v2/_catalog",
        "GET /v2/<name>/tags/list",
        "PUT /v2/<name>/manifests/<reference>",
        "DELETE /v2/<name>/blobs/<digest>",
        "POST /v2/<name>/blobs/uploads/",
        "PATCH /v2/<name>/blobs/uploads/<uuid>",
        "GET /v2/<name>/referrers/<digest>",
    }


def test_a_traceback_would_be_heard() -> None:
    """The registry's log reaches the listener, wherever else it goes."""
    with pytest.raises(AssertionError), quiet_log():
        logging.getLogger("distsql").error("failed")


@pytest.mark.parametrize("route", ROUTES, ids=str)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_no_request_breaks_a_route(
    client: httpx.AsyncClient, application: Application, route: Route, data: st.DataObject
) -> None:
    """6.1, HAZARDS "names", "SQL": whatever is sent to a route, no 500, no traceback, and the error body of the API."""
    target = data.draw(targets(route))
    if data.draw(st.integers(0, 3)):
        target += b"?" + data.draw(queries())
    fields, body, ends = data.draw(headers), data.draw(pieces), data.draw(st.booleans())
    if "<uuid>" in route.template and data.draw(st.booleans()):
        location = await begin_upload(client, "acme/web")
        target = location.encode() + target[target.find(b"?") :] if b"?" in target else location.encode()
    elif data.draw(st.integers(0, 5)) == 0:
        await push_image(client, "acme/web", tags=["v1"])
    started = time.monotonic()
    with quiet_log():
        status, found, content = await send(application, route.method, target, fields=fields, body=body, ends=ends)
    assert 200 <= status < 500, content[:500]
    assert time.monotonic() - started < SOON_S
    assert b"Traceback" not in content
    assert not [value for value in found.values() if b"\r" in value or b"\n" in value or b"\0" in value]
    if status >= 400 and route.method != "HEAD":
        assert found["content-type"] == b"application/json"
        assert b'"errors":[{"code":"' in content
