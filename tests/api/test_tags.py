"""PROTOCOL, "Discovery": tags and the catalogue, by page."""

from __future__ import annotations

import httpx

from tests.api.contents import CONFIG, digest_of, errors, image, pages, push_blob, push_image, put_manifest

URL = "/v2/acme/web/tags/list"
# Names that are prefixes of others, and joined by characters that other orders than that of bytes pass over.
TAGS = sorted(
    ["a", "a-", "a.b", "aB", "aa", "A", "B", "_", "0", "00", "v1", "v1.0", "v1.0.0", "v1-rc", "v10", "z" * 128]
)
NAMES = sorted(
    ["a/b", "a/b-c", "a/b/c", "a/b0", "a-b/c", "a.b/c", "a0/b", "a/bb", "library/a", "library/x", "x/library/a", "x/y"]
)


async def push_tags(client: httpx.AsyncClient, name: str, tags: list[str]) -> None:
    await push_blob(client, name, CONFIG)
    for start in range(0, len(tags), 100):
        some = tags[start : start + 100]
        answer = await put_manifest(client, name, image(), digest_of(image()), params={"tag": some})
        assert answer.status_code == 201


async def test_tags_are_listed_in_byte_order(client: httpx.AsyncClient) -> None:
    """4.1 without n, whatever order they were pushed in; another repository's are not among them."""
    await push_tags(client, "acme/web", TAGS[::-1])
    await push_tags(client, "acme/web2", ["other"])
    answer = await client.get(URL)
    assert (answer.status_code, answer.json()) == (200, {"name": "acme/web", "tags": TAGS})
    assert answer.headers["content-type"] == "application/json"
    assert "link" not in answer.headers
    asked = await client.head(URL)
    assert (asked.status_code, asked.content, asked.headers["content-length"]) == (200, b"", str(len(answer.content)))


async def test_a_repository_without_tags_has_none_and_an_unknown_one_is_unknown(client: httpx.AsyncClient) -> None:
    """4.1 an empty list; 404 NAME_UNKNOWN, whatever page is asked for."""
    await push_blob(client, "acme/web", CONFIG)
    assert (await client.get(URL)).json() == {"name": "acme/web", "tags": []}
    for query in ("", "?n=0", "?n=5", "?last=x"):
        answer = await client.get(f"/v2/acme/nothing/tags/list{query}")
        assert (answer.status_code, errors(answer)) == (404, ["NAME_UNKNOWN"])


async def test_pages_have_every_tag_once(client: httpx.AsyncClient) -> None:
    """4.1 n is exact unless fewer remain; the last page has no Link."""
    await push_tags(client, "acme/web", TAGS)
    for size in (1, 2, 5, len(TAGS) - 1, len(TAGS), len(TAGS) + 1):
        found = [page["tags"] async for page in pages(client, f"{URL}?n={size}")]
        assert [tag for page in found for tag in page] == TAGS
        assert {len(page) for page in found[:-1]} <= {size}
        assert 0 < len(found[-1]) <= size


async def test_a_page_of_nothing_leads_nowhere(client: httpx.AsyncClient) -> None:
    """4.1 n=0: empty, and without Link, else a client would follow it for ever."""
    await push_tags(client, "acme/web", ["a", "b"])
    for url, member in ((URL, "tags"), ("/v2/_catalog", "repositories")):
        for size in ("0", "000"):
            answer = await client.get(url, params={"n": size})
            assert (answer.status_code, answer.json()[member]) == (200, [])
            assert "link" not in answer.headers


async def test_last_need_not_exist(client: httpx.AsyncClient) -> None:
    """4.1 a page begins behind it, in byte order, whatever it is."""
    await push_tags(client, "acme/web", TAGS)
    for last in ("a", "a.", "A~", "v1.0.0.0", "zzz", "", "~", "é", "0" * 10_000, "x\0y", "' or 1=1 --"):
        answer = await client.get(URL, params={"last": last})
        expected = [tag for tag in TAGS if tag.encode() > last.replace("\0", "\ufffd").encode()]
        assert answer.json()["tags"] == expected, last
    answer = await client.get(URL, params={"last": "v1", "n": "2"})
    assert answer.json()["tags"] == ["v1-rc", "v1.0"]


SIZES = ["-1", "+1", "1.0", "1e30", "NaN", "inf", "", " 1", "1 ", "0x10", "\uff11", "1_0", "ten", "x" * 10_000, "1\0"]


async def test_a_bad_page_size_is_refused_and_a_huge_one_is_capped(client: httpx.AsyncClient) -> None:
    """4.1, 4.4, hazard CVE-2023-2253: on tags, catalogue and referrers, without allocating."""
    await push_tags(client, "acme/web", ["a", "b"])
    for url in (URL, "/v2/_catalog", f"/v2/acme/web/referrers/{digest_of(image())}"):
        for size in SIZES:
            answer = await client.get(url, params={"n": size})
            assert (answer.status_code, errors(answer)) == (400, ["PAGINATION_NUMBER_INVALID"]), size
        for huge in ("2147483648", "9223372036854775808", "9" * 5000, "0" * 5000 + "5"):
            answer = await client.get(url, params={"n": huge})
            assert answer.status_code == 200
            assert "link" not in answer.headers


async def test_of_a_parameter_that_comes_twice_the_first_counts(client: httpx.AsyncClient) -> None:
    """4.1 and parameters that nobody knows change nothing."""
    await push_tags(client, "acme/web", ["a", "b", "c"])
    answer = await client.get(f"{URL}?n=1&n=2&last=a&last=b&ns=docker.io&x&=&%ff=%ff")
    assert answer.json()["tags"] == ["b"]
    assert answer.headers["link"] == f'<{URL}?n=1&last=b>; rel="next"'


async def test_more_tags_than_a_page_holds_are_reached_by_link(client: httpx.AsyncClient) -> None:
    """4.1 also when the client names no page size; a name of one component stays as it was asked for."""
    tags = [f"v{number:04}" for number in range(1100)]
    await push_tags(client, "x", tags)
    found = [page async for page in pages(client, "/v2/x/tags/list")]
    assert [tag for page in found for tag in page["tags"]] == tags
    assert [page["name"] for page in found] == ["x", "x"]


async def test_the_catalogue_lists_every_repository_once(client: httpx.AsyncClient) -> None:
    """4.4, hazard distribution #4898: sorted by byte, by page of any size, names that are prefixes of others too."""
    for name in NAMES:
        await push_blob(client, name, CONFIG)
    assert (await client.get("/v2/_catalog")).json() == {"repositories": NAMES}
    for size in (1, 2, 5, len(NAMES)):
        found = [page["repositories"] async for page in pages(client, f"/v2/_catalog?n={size}")]
        assert [name for page in found for name in page] == NAMES
        assert {len(page) for page in found[:-1]} <= {size}
    for last in ("a/b", "a/b/", "a/", "a/c", "library/", "zz/z", "", "A/A", "a/b\0", "~/~"):
        answer = await client.get("/v2/_catalog", params={"last": last})
        behind = [name for name in NAMES if name > last.replace("\0", "\ufffd")]
        assert answer.json()["repositories"] == behind, last
    answer = await client.get("/v2/_catalog?n=1&last=a/b")
    assert answer.headers["link"] == '</v2/_catalog?n=1&last=a%2Fb-c>; rel="next"'


async def test_last_may_be_a_part_of_a_repositorys_name(client: httpx.AsyncClient) -> None:
    """4.4 last need not exist, nor be a full name."""
    for name in NAMES:
        await push_blob(client, name, CONFIG)
    for last in ("a", "a-", "library", "x"):
        answer = await client.get("/v2/_catalog", params={"last": last})
        assert answer.json()["repositories"] == [name for name in NAMES if name > last], last


async def test_a_removed_tag_leaves_the_list(client: httpx.AsyncClient) -> None:
    """4.1 live tags only."""
    payload = await push_image(client, "acme/web", tags=["a", "b"])
    await client.delete("/v2/acme/web/manifests/a")
    assert (await client.get(URL)).json()["tags"] == ["b"]
    await client.delete(f"/v2/acme/web/manifests/{digest_of(payload)}")
    assert (await client.get(URL)).json()["tags"] == []
