"""PROTOCOL, "Errors": what goes wrong is told in the specification's form, and the process goes on."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx
import pytest

from distsql import errors as meanings
from distsql.api.application import Application
from distsql.api.errors import response_to
from distsql.api.log_lines import JSONFormatter
from distsql.api.logs import AccessLog
from distsql.api.requests import Limits
from distsql.api.responses import warning
from distsql.app import Registry
from distsql.contract import Namespace
from distsql.registry.stored_layer import StoredLayer
from distsql.values import ASGIMessage
from tests.api.contents import errors, push_blob, put_manifest
from tests.api.exchange import Answer, exchange


class Broken:
    """A registry in which every request meets the same misfortune."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @property
    def namespace(self) -> Namespace:
        return cast("Namespace", self)

    def acting_as(self, caller: object) -> Broken:
        return self

    def repository(self, name: str) -> object:
        raise self._error

    async def open(self) -> None:
        raise self._error

    async def close(self) -> None:
        pass

    async def check(self) -> None:
        raise self._error


async def ask(error: Exception, url: str = "/v2/acme/web/tags/list", method: str = "GET") -> Answer:
    return await exchange(Application(Broken(error), limits=Limits(), access_log=None), method, url)


def subclasses(kind: type[Any]) -> list[type[Any]]:
    return [kind, *(each for child in kind.__subclasses__() for each in subclasses(child))]


def test_every_refusal_has_a_status_and_a_code_of_its_own_making() -> None:
    """6.1 no error that a client can cause is the server's fault."""
    for kind in subclasses(meanings.RegistryError)[1:]:
        extra = {"offset": 1} if kind is meanings.UploadRangeError else {}
        extra = {"length": 1} if kind is meanings.RangeUnsatisfiableError else extra
        answer = response_to(kind("what is wrong", **extra))
        (error,) = json.loads(answer.body)["errors"]
        assert 400 <= answer.status < 500, kind
        assert error["code"].isupper()
        assert error["message"] == "what is wrong"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (meanings.CatalogueUnavailableError("away"), 503),
        (meanings.StoreUnavailableError("away", retry_after=7), 503),
        (meanings.StoreFullError("full"), 507),
    ],
)
async def test_machinery_that_doesnt_answer_is_tried_again_later(error: Exception, status: int) -> None:
    """6.2 Retry-After, on requests and on /readyz."""
    for url in ("/v2/acme/web/tags/list", "/readyz"):
        answer = await ask(error, url)
        assert (answer.status, answer.codes) == (status, ["UNAVAILABLE"])
        assert int(answer.headers["retry-after"]) >= 1
    assert (await ask(error, "/healthz")).status == 200


@pytest.mark.parametrize(
    "kind",
    [
        meanings.CatalogueUnavailableError,
        meanings.StoreUnavailableError,
        meanings.StoreFullError,
        meanings.BytesMissingError,
        meanings.ContentCorruptError,
    ],
)
async def test_what_is_wrong_with_the_machinery_is_told_in_the_log_only(
    kind: type[meanings.DistsqlError], caplog: pytest.LogCaptureFixture
) -> None:
    """6.1 clients hear what it means for them; addresses, folders and PostgreSQL's words are for whoever runs it."""
    answer = await ask(kind("socket /secret/place"))
    assert answer.status >= 500
    assert b"secret" not in answer.body
    assert "again" in answer.body.decode()
    assert "/secret/place" in caplog.text


async def test_what_nobody_expected_is_logged_and_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """6.1, hazard: 500 in the same form, without a traceback; the log has it under the request's id."""
    answer = await ask(ZeroDivisionError("a secret"))
    assert (answer.status, answer.codes) == (500, ["UNKNOWN"])
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    (record,) = caplog.records
    assert record.exc_info
    line = json.loads(JSONFormatter().format(record))
    assert line["request_id"] in answer.body.decode()
    assert "ZeroDivisionError" in line["traceback"]


async def test_an_error_of_head_has_no_body(client: httpx.AsyncClient) -> None:
    """6.1 but the headers of its GET."""
    for url in ("/v2/acme/web/manifests/v1", "/v2/acme/web/blobs/sha256:x", "/v2/NOT/tags/list", "/nowhere"):
        told, asked = await client.get(url), await client.head(url)
        assert errors(told)
        assert (asked.status_code, asked.content) == (told.status_code, b"")
        assert dict(asked.headers) == dict(told.headers)


async def test_an_error_can_name_what_no_utf8_can_spell() -> None:
    """6.1 text of clients may come back in a message; answering must not fail over it."""
    answer = await ask(meanings.NameInvalidError("\ud800 is no name", detail={"name": "\udfff\0\u2028"}))
    assert (answer.status, answer.codes) == (400, ["NAME_INVALID"])


async def test_an_answer_that_fails_in_the_middle_is_cut(
    client: httpx.AsyncClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.1 the length was promised: only a broken connection tells that this is not the whole content."""
    digest = await push_blob(client, "acme/web", b"x" * 200_000)

    async def breaking(*args: object) -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise meanings.StoreUnavailableError("the disk is gone")

    monkeypatch.setattr(StoredLayer, "stream", breaking)
    application = Application(registry, limits=Limits(), access_log=None)
    with pytest.raises(ConnectionAbortedError):
        await exchange(application, "GET", f"/v2/acme/web/blobs/{digest}")


async def test_every_request_is_one_line_in_the_access_log(registry: Registry) -> None:
    """6.1 with the status that was sent; whatever clients write stays inside of its line."""
    lines = io.StringIO()
    log = AccessLog(lines)
    application = Application(registry, limits=Limits(), access_log=log)
    agent = {"user-agent": 'x"\\\x7f' + "y" * 9000, "x-request-id": "mine-1"}
    await exchange(application, "GET", "/v2/acme/web/tags/list?token=secret", headers=agent)
    await exchange(application, "HEAD", b"/v2/%0a%22%ff/manifests/x", headers={"x-request-id": "not mine\r\n"})
    log.flush()
    first, second = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (first["method"], first["path"], first["status"]) == ("GET", "/v2/acme/web/tags/list", 404)
    assert (first["request_id"], first["client"]) == ("mine-1", "192.0.2.1")
    assert len(first["user_agent"]) <= 256
    assert (second["status"], "\n" in second["path"]) == (400, False)
    assert "mine" not in second["request_id"]
    assert "secret" not in lines.getvalue()


async def test_a_registry_that_cant_start_says_so_to_its_server() -> None:
    """6.1 the lifespan fails with the message, and nothing is served."""
    for error, expected in (
        (None, "lifespan.startup.complete"),
        (meanings.SchemaError("old"), "lifespan.startup.failed"),
    ):
        sent = await _live(Application(_service(error), limits=Limits(), access_log=None))
        assert sent[0]["type"] == expected
        assert error is None or sent == [{"type": expected, "message": "old"}]


def _service(error: Exception | None) -> Broken:
    class Working(Broken):
        async def open(self) -> None:
            pass

    return Broken(error) if error else Working(RuntimeError())


async def _live(application: Application) -> list[ASGIMessage]:
    sent: list[ASGIMessage] = []
    coming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> ASGIMessage:
        return cast("ASGIMessage", next(coming))

    async def send(message: ASGIMessage) -> None:
        sent.append(message)

    await application({"type": "lifespan"}, receive, send)
    return sent


def test_warnings_are_quoted_and_bounded() -> None:
    """6.3 three of them stay within 4096 bytes."""
    make: Callable[[str], tuple[bytes, bytes]] = warning
    assert make('say "no" \\') == (b"warning", b'299 - "say \\"no\\" \\\\"')
    assert len(make("x" * 100_000)[1]) * 3 < 4096


async def test_an_error_changes_nothing(client: httpx.AsyncClient) -> None:
    """6.1 a refused push doesn't make the repository."""
    await put_manifest(client, "acme/web", b'{"schemaVersion":2}', "v1", media_type="a/b")
    for url in ("/v2/acme/other/manifests/v1", "/v2/acme/other/manifests/bad tag"):
        assert (await client.put(url, content=b"no manifest")).status_code == 400
    assert (await client.post("/v2/acme/other/blobs/uploads/?digest=sha256:x")).status_code == 400
    assert (await client.get("/v2/_catalog")).json() == {"repositories": ["acme/web"]}
