"""PROTOCOL, "Discovery": referrers."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.api.contents import (
    ABSENT,
    CONFIG,
    CONFIG_TYPE,
    OCI_IMAGE,
    OCI_INDEX,
    artifact,
    digest_of,
    image,
    index,
    pages,
    push_blob,
    push_image,
    push_manifest,
    put_manifest,
)

URL = "/v2/acme/web/referrers/"


async def referrers(client: httpx.AsyncClient, digest: str, **params: str) -> list[str]:
    answer = await client.get(URL + digest, params=params)
    assert answer.status_code == 200
    return [entry["digest"] for entry in answer.json()["manifests"]]


async def test_referrers_are_an_index_of_descriptors(client: httpx.AsyncClient) -> None:
    """4.2 with media type, size, artifactType (else the config's type) and annotations, in the order of digests."""
    subject = digest_of(await push_image(client, "acme/web"))
    described = {"mediaType": OCI_IMAGE, "digest": subject, "size": 5}
    signed = artifact(subject, "application/vnd.example.signature", who="alice", when='"now" \u00e9 \\')
    plain, tree = image(subject=described), index(subject=described, artifactType="application/vnd.example.tree")
    for payload in (signed, plain, tree, image(subject={**described, "digest": ABSENT})):
        await push_manifest(client, "acme/web", payload)
    answer = await client.get(URL + subject)
    assert (answer.status_code, answer.headers["content-type"]) == (200, OCI_INDEX)
    assert "link" not in answer.headers
    document = answer.json()
    assert (document["schemaVersion"], document["mediaType"]) == (2, OCI_INDEX)
    expected = [
        (signed, OCI_IMAGE, "application/vnd.example.signature", {"who": "alice", "when": '"now" \u00e9 \\'}),
        (plain, OCI_IMAGE, CONFIG_TYPE, None),
        (tree, OCI_INDEX, "application/vnd.example.tree", None),
    ]
    assert document["manifests"] == [
        {
            "mediaType": media_type,
            "digest": digest_of(payload),
            "size": len(payload),
            "artifactType": kind,
            **({"annotations": annotations} if annotations else {}),
        }
        for payload, media_type, kind, annotations in sorted(expected, key=lambda each: digest_of(each[0]))
    ]
    asked = await client.head(URL + subject)
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-length"] == str(len(answer.content))


async def test_nothing_refers_to_nothing(client: httpx.AsyncClient) -> None:
    """4.2 200 and an empty index: no referrers, no such content, no such repository."""
    subject = digest_of(await push_image(client, "acme/web"))
    for url in (URL + subject, URL + ABSENT, f"/v2/acme/nothing/referrers/{ABSENT}", f"/v2/x/referrers/{ABSENT}"):
        answer = await client.get(url)
        assert (answer.status_code, answer.headers["content-type"]) == (200, OCI_INDEX)
        assert answer.json() == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_subject_may_come_later_or_never(client: httpx.AsyncClient, algorithm: str) -> None:
    """4.2 referrers are found in any order of pushing, by the digest that they name."""
    await push_blob(client, "acme/web", CONFIG)
    subject = digest_of(image(), algorithm)
    referrer = await push_manifest(client, "acme/web", artifact(subject, "a/b"))
    assert await referrers(client, subject) == [referrer]
    await put_manifest(client, "acme/web", image(), subject)
    assert await referrers(client, subject) == [referrer]
    await client.delete(f"/v2/acme/web/manifests/{subject}")
    assert await referrers(client, subject) == [referrer]


async def test_referrers_are_filtered_by_artifact_type(client: httpx.AsyncClient) -> None:
    """4.2 OCI-Filters-Applied says so; a type that nobody has gives an empty index; hostile ones too."""
    await push_blob(client, "acme/web", CONFIG)
    kinds = {kind: await push_manifest(client, "acme/web", artifact(ABSENT, kind)) for kind in ("a/b", "a/bc", "x/y+z")}
    for kind, digest in kinds.items():
        answer = await client.get(URL + ABSENT, params={"artifactType": kind})
        assert [entry["digest"] for entry in answer.json()["manifests"]] == [digest]
        assert answer.headers["oci-filters-applied"] == "artifactType"
    for kind in (
        "a",
        "A/B",
        "%",
        "a/b\0",
        "'",
        "\\",
        "x" * 10_000,
        "a/b,a/bc",
        "\ud800".encode("utf-8", "replace").decode(),
    ):
        answer = await client.get(URL + ABSENT, params={"artifactType": kind})
        assert (answer.status_code, answer.json()["manifests"]) == (200, [])
        assert answer.headers["oci-filters-applied"] == "artifactType"
    for query in ("", "?artifactType=", "?artifacttype=a/b"):
        answer = await client.get(URL + ABSENT + query)
        assert len(answer.json()["manifests"]) == 3
        assert "oci-filters-applied" not in answer.headers


async def test_pages_have_every_referrer_once(client: httpx.AsyncClient) -> None:
    """4.2 n is exact, the filter goes along, last need not exist."""
    await push_blob(client, "acme/web", CONFIG)
    every = sorted(
        [
            await push_manifest(
                client, "acme/web", artifact(ABSENT, "a/b" if number % 3 else "x/y+z", number=str(number))
            )
            for number in range(30)
        ]
    )
    for size in (1, 4, 25, 29, 30, 31):
        found = [page["manifests"] async for page in pages(client, f"{URL}{ABSENT}?n={size}")]
        assert [entry["digest"] for page in found for entry in page] == every
        assert {len(page) for page in found[:-1]} <= {size}
    filtered = [page["manifests"] async for page in pages(client, f"{URL}{ABSENT}?n=3&artifactType=x%2Fy%2Bz")]
    assert [len(page) for page in filtered] == [3, 3, 3, 1]
    assert {entry["artifactType"] for page in filtered for entry in page} == {"x/y+z"}
    assert await referrers(client, ABSENT, last="sha256:" + "8" * 64) == [each for each in every if each[7] > "7"]
    empty = await client.get(f"{URL}{ABSENT}?n=0")
    assert (empty.json()["manifests"], "link" in empty.headers) == ([], False)
    assert (await client.get(f"{URL}{ABSENT}?last=nonsense")).status_code == 400


@pytest.mark.slow
async def test_a_page_stays_below_four_mebibytes(client: httpx.AsyncClient) -> None:
    """4.2 with large annotations there are more pages; one that no page has room for is left to its manifest."""
    await push_blob(client, "acme/web", CONFIG)
    for number in range(5):
        await push_manifest(client, "acme/web", artifact(ABSENT, "a/b", **{f"key{number}": "x" * 1_300_000}))
    await push_manifest(client, "acme/web", artifact(ABSENT, "a/b", huge="x" * 5_000_000))
    await push_manifest(client, "acme/web", artifact(ABSENT, "a/b", huge='"' * 2_500_000))
    url, found = URL + ABSENT, []
    while url:
        answer = await client.get(url)
        assert len(answer.content) < 4 * 1024**2
        found += answer.json()["manifests"]
        url = answer.links["next"]["url"] if "link" in answer.headers else ""
    assert len(found) == len({entry["digest"] for entry in found}) == 7
    assert sum("annotations" in entry for entry in found) == 5


async def test_the_fallback_tag_is_an_ordinary_tag(client: httpx.AsyncClient) -> None:
    """4.3 a manifest with the subject is listed whether or not the client keeps the tag, and once only."""
    subject = digest_of(await push_image(client, "acme/web"))
    referrer = artifact(subject, "a/b")
    digest = await push_manifest(client, "acme/web", referrer)
    fallback = subject.replace(":", "-")
    await push_manifest(client, "acme/web", index(referrer), fallback)
    assert await referrers(client, subject) == [digest]
    assert (await client.get(f"/v2/acme/web/manifests/{fallback}")).content == index(referrer)
    assert (await client.delete(f"/v2/acme/web/manifests/{fallback}")).status_code == 202
    assert await referrers(client, subject) == [digest]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_entries_under_the_fallback_tag_are_listed_too(client: httpx.AsyncClient, algorithm: str) -> None:
    """4.3 manifests without a subject, as older clients push them; by page, filtered, in one order with the others."""
    await push_blob(client, "acme/web", CONFIG)
    subject = digest_of(b"subject", algorithm)
    old = [image(artifactType=kind, annotations={"n": str(n)}) for n in range(8) for kind in ("a/b", "c/d")]
    new = [artifact(subject, kind, n=str(n)) for n in range(4) for kind in ("a/b", "c/d")]
    for payload in (*old, *new):
        await push_manifest(client, "acme/web", payload)
    fallback = f"{algorithm}-{subject.partition(':')[2][:64]}"
    await push_manifest(client, "acme/web", index(*old, new[0]), fallback)
    every = sorted(map(digest_of, old + new))
    assert await referrers(client, subject) == every
    found = [page["manifests"] async for page in pages(client, f"{URL}{subject}?n=5")]
    assert [entry["digest"] for page in found for entry in page] == every
    assert [len(page) for page in found] == [5, 5, 5, 5, 4]
    assert {entry["annotations"]["n"] for page in found for entry in page} == set("01234567")
    of_one_kind = sorted(digest_of(each) for each in old + new if json.loads(each)["artifactType"] == "c/d")
    assert await referrers(client, subject, artifactType="c/d") == of_one_kind
    await client.delete(f"/v2/acme/web/manifests/{fallback}")
    assert await referrers(client, subject) == sorted(map(digest_of, new))


async def test_only_an_index_under_the_fallback_tag_tells_of_referrers(client: httpx.AsyncClient) -> None:
    """4.3 an image under that name doesn't, nor an index under another."""
    child = await push_image(client, "acme/web", b"layer")
    await push_manifest(client, "acme/web", child, ABSENT.replace(":", "-"))
    await push_manifest(client, "acme/web", index(child), ABSENT.replace(":", "-") + ".sig")
    assert await referrers(client, ABSENT) == []
