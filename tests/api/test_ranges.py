"""PROTOCOL 1.2: parts of blobs (RFC 9110, section 14)."""

from __future__ import annotations

from contextlib import suppress

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distsql.api.ranges import parse_range
from distsql.errors import RangeUnsatisfiableError
from tests.api.contents import ABSENT, digest_of, errors, push_blob

LARGE = bytes(range(256)) * 1024
SIZES = {"small": b"0123456789", "large": LARGE}


@pytest.mark.parametrize("content", SIZES.values(), ids=SIZES)
async def test_a_part_is_sent_with_its_place(client: httpx.AsyncClient, content: bytes) -> None:
    """1.2 a-b, a-, -n; an end beyond the content is clipped, and so are numbers beyond any content."""
    size = len(content)
    url = f"/v2/acme/web/blobs/{await push_blob(client, 'acme/web', content)}"
    for asked, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=2-5", 2, 5),
        ("bytes=0-", 0, size - 1),
        (f"bytes={size - 1}-", size - 1, size - 1),
        ("bytes=-3", size - 3, size - 1),
        (f"bytes=-{size * 2}", 0, size - 1),
        (f"bytes=3-{size * 2}", 3, size - 1),
        ("bytes=1-" + "9" * 40, 1, size - 1),
        ("Bytes= 2-5 ", 2, 5),
    ):
        answer = await client.get(url, headers={"range": asked})
        assert (answer.status_code, answer.content) == (206, content[first : last + 1]), asked
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
        assert answer.headers["content-length"] == str(last - first + 1)
        assert answer.headers["docker-content-digest"] == digest_of(content)


@pytest.mark.parametrize("content", [b"", *SIZES.values()], ids=["empty", *SIZES])
async def test_a_part_that_isnt_there_is_416(client: httpx.AsyncClient, content: bytes) -> None:
    """1.2 unsatisfiable or inverted; Content-Length is that of the error."""
    size = len(content)
    url = f"/v2/acme/web/blobs/{await push_blob(client, 'acme/web', content)}"
    for asked in (f"bytes={size}-", f"bytes={size}-{size + 9}", "bytes=5-2", "bytes=-0", f"bytes={'9' * 40}-"):
        answer = await client.get(url, headers={"range": asked})
        assert (answer.status_code, errors(answer)) == (416, ["RANGE_INVALID"]), asked
        assert answer.headers["content-range"] == f"bytes */{size}"


async def test_a_range_that_isnt_understood_is_ignored(client: httpx.AsyncClient) -> None:
    """1.2 other units, several ranges, nonsense: the whole content (section 14.2)."""
    url = f"/v2/acme/web/blobs/{await push_blob(client, 'acme/web', b'0123456789')}"
    for asked in (
        "lines=1-2",
        "bytes=0-1,3-4",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "0-1",
        "bytes=\uff11-2",
        "",
        "x" * 9000,
    ):
        answer = await client.get(url, headers={b"range": asked.encode()})
        assert (answer.status_code, answer.content) == (200, b"0123456789"), asked
        assert "content-range" not in answer.headers


async def test_a_range_is_for_get_and_for_the_content_that_the_client_knows(client: httpx.AsyncClient) -> None:
    """1.2 ignored on HEAD (section 14.2), and when If-Range names other content (section 13.1.5)."""
    digest = await push_blob(client, "acme/web", b"0123456789")
    url, part = f"/v2/acme/web/blobs/{digest}", {"range": "bytes=2-5"}
    answer = await client.head(url, headers=part)
    assert (answer.status_code, answer.headers["content-length"]) == (200, "10")
    assert (await client.get(url, headers={**part, "if-range": f'"{digest}"'})).status_code == 206
    for other in (f'"{ABSENT}"', f'W/"{digest}"', "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert (await client.get(url, headers={**part, "if-range": other})).content == b"0123456789"


async def test_a_part_of_content_that_the_client_has_isnt_sent(client: httpx.AsyncClient) -> None:
    """1.3 If-None-Match comes before Range (section 13.2.2)."""
    digest = await push_blob(client, "acme/web", b"0123456789")
    headers = {"range": "bytes=99-", "if-none-match": f'"{digest}"'}
    assert (await client.get(f"/v2/acme/web/blobs/{digest}", headers=headers)).status_code == 304


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    text=st.one_of(
        st.from_regex(r"bytes=[0-9]{0,25}-[0-9]{0,25}", fullmatch=True),
        st.text(st.characters(max_codepoint=255), max_size=40),
    ),
    length=st.integers(0, 2**63),
)
def test_a_range_is_always_inside_of_the_content(text: str, length: int) -> None:
    """1.2 whatever is asked: nothing, a part that exists, or the error."""
    scope = {"method": "GET", "headers": [(b"range", text.encode("latin-1"))]}
    with suppress(RangeUnsatisfiableError):
        found = parse_range(scope, length, entity_tag=b'"x"')
        assert found is None or 0 <= found[0] < found[1] <= length
