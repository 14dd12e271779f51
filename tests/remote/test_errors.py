"""What the API answers comes back as what the registry raised; what others answer as something that can be caught."""

from __future__ import annotations

import json

import pytest

from distsql import errors
from distsql.api.errors import response_to
from distsql.remote.errors import end_of, error_of

DETAILED: dict[str, errors.DistsqlError] = {
    "in use": errors.InUseError("m", detail={"digest": "sha256:1", "referrer": "sha256:2"}),
    "tag changed": errors.TagChangedError("m", detail={"tag": "v1", "digest": None}),
    "missing": errors.ManifestReferencesUnknownError("m", detail=[{"digest": "sha256:1", "role": "layer"}]),
    "upload": errors.UploadRangeError("m", offset=1),
    "range": errors.RangeUnsatisfiableError("m", length=7),
    "later": errors.UnavailableError("m", retry_after=9),
}
PLAIN = (
    errors.NameInvalidError,
    errors.NameUnknownError,
    errors.ReferenceInvalidError,
    errors.TooManyTagsError,
    errors.DigestInvalidError,
    errors.ManifestUnknownError,
    errors.ManifestInvalidError,
    errors.ManifestTooLargeError,
    errors.ManifestUnverifiedError,
    errors.BlobUnknownError,
    errors.UploadUnknownError,
    errors.UploadBusyError,
    errors.SizeInvalidError,
    errors.PageInvalidError,
    errors.UnsupportedError,
)


def there_and_back(error: errors.DistsqlError) -> errors.DistsqlError:
    answer = response_to(error)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return error_of(answer.status, headers, answer.body, asked="GET /")


@pytest.mark.parametrize("kind", PLAIN)
def test_an_error_comes_back_as_it_was_raised(kind: type[errors.RegistryError]) -> None:
    back = there_and_back(kind("what is wrong", detail={"k": "v"}))
    assert (type(back), back.message, back.detail) == (kind, "what is wrong", {"k": "v"})


@pytest.mark.parametrize("name", DETAILED)
def test_so_does_what_it_tells(name: str) -> None:
    error = DETAILED[name]
    back = there_and_back(error)
    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    "body", [b"", b"404 page not found", b"[]", b"{}", b'{"errors": {}}', b'{"errors": [1]}', b"[" * 100_000, b"\xff"]
)
def test_a_body_that_says_nothing(body: bytes) -> None:
    """By the status alone, in a sentence that names what was asked."""
    for status, kind in ((401, errors.RegistryError), (404, errors.NameUnknownError), (405, errors.UnsupportedError)):
        error = error_of(status, {}, body, asked="GET /v2/")
        assert (type(error), error.message) == (kind, f"GET /v2/ gives {status}")
    for status in (429, 500, 502, 503):
        error = error_of(status, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, body, asked="GET /v2/")
        assert isinstance(error, errors.UnavailableError)
        assert error.retry_after == 1


def test_several_errors_are_told_together() -> None:
    """As distribution answers: an entry for each blob that is missing."""
    entries = [{"code": "MANIFEST_BLOB_UNKNOWN", "message": name, "detail": {"digest": name}} for name in ("a", "b")]
    error = error_of(400, {}, json.dumps({"errors": entries}).encode(), asked="PUT")
    assert isinstance(error, errors.ManifestReferencesUnknownError)
    assert (error.message, error.detail) == ("a; b", [{"digest": "a"}, {"digest": "b"}])


@pytest.mark.parametrize(
    ("text", "end"), [("0-0", 0), ("0-9", 10), ("bytes=0-9", 10), ("", 0), ("x", 0), ("0-x", 0), ("0--1", 0)]
)
def test_where_a_session_stands(text: str, end: int) -> None:
    assert end_of(text) == end
