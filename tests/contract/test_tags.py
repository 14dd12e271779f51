from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from distsql.contract import Namespace, Repository
from distsql.errors import ManifestUnknownError, NameUnknownError, ReferenceInvalidError, TagUnknownError
from distsql.oci.digest import Digest
from tests.contract.conftest import PAGE
from tests.contract.covering import covers
from tests.contract.families import every_family, push_blobs
from tests.registry.pushing import push_image

# Some are prefixes of others; capitals and digits come before '_', that before small letters.
NAMES = ["0", "1", "1-a", "1.0", "1.0-a", "10", "V1", "_", "_1", "a", "a-b", "a.b", "a0", "aa", "v1", "v1-", "v10"]
MALFORMED = ["", "-v", ".v", "a b", "a/b", "a:b", "v" * 129, "v\n", "v\0", "\ud800"]
NOWHERE = Digest.of(b"nowhere")


async def listed(names: AsyncIterator[str]) -> list[str]:
    return [name async for name in names]


@covers("TagService.get")
async def test_a_tag_tells_what_it_points_to(repository: Repository, elsewhere: Namespace) -> None:
    await push_blobs(repository)
    for number, manifest in enumerate(every_family().values()):
        tag = manifest.declared_tag or f"v{number}"
        await repository.manifests.put(manifest, [tag])
        found = await elsewhere.repository("acme/web").tags.get(tag)
        assert (found.media_type, found.length) == (manifest.media_type, len(manifest.payload))
        assert (found.digest, found.artifact_type) == (manifest.digest, manifest.artifact_type)


@covers("TagService.get")
async def test_what_is_not_tagged(repository: Repository) -> None:
    with pytest.raises(NameUnknownError):
        await repository.tags.get("v1")
    await push_image(repository, tags=["v1"])
    for tag in ["v2", "V1", "v", *MALFORMED]:
        with pytest.raises(TagUnknownError):
            await repository.tags.get(tag)


@covers("TagService.tag", "TagService.get")
async def test_tagging_moves_the_tag(repository: Repository) -> None:
    first, second = await push_image(repository, b"1"), await push_image(repository, b"2")
    for digest in (first.digest, second.digest, second.digest, first.digest):
        await repository.tags.tag("v1", digest)
        assert (await repository.tags.get("v1")).digest == digest
    assert len([move async for move in repository.tags.history("v1")]) == 3


@covers("TagService.tag")
async def test_only_a_manifest_of_the_repository_can_be_tagged(namespace: Namespace, repository: Repository) -> None:
    with pytest.raises(NameUnknownError):
        await repository.tags.tag("v1", NOWHERE)
    assert not await repository.exists()
    await push_image(repository, b"1")
    other = await push_image(namespace.repository("acme/other"), b"2")
    for digest in (NOWHERE, other.digest, Digest.of(b"1")):
        with pytest.raises(ManifestUnknownError):
            await repository.tags.tag("v1", digest)
    assert await listed(repository.tags.list()) == []


@covers("TagService.tag")
async def test_a_malformed_tag_is_refused(repository: Repository) -> None:
    manifest = await push_image(repository)
    for tag in MALFORMED:
        with pytest.raises(ReferenceInvalidError):
            await repository.tags.tag(tag, manifest.digest)
    assert await listed(repository.tags.list()) == []


@covers("TagService.untag")
async def test_an_ended_tag_is_gone_and_its_manifest_stays(repository: Repository, elsewhere: Namespace) -> None:
    manifest = await push_image(repository, tags=["v1", "v2"])
    await repository.tags.untag("v1")
    there = elsewhere.repository("acme/web")
    with pytest.raises(TagUnknownError):
        await there.tags.get("v1")
    assert await listed(there.tags.list()) == ["v2"]
    assert await listed(there.tags.lookup(manifest.digest)) == ["v2"]
    assert await there.manifests.exists(manifest.digest)


@covers("TagService.untag")
async def test_what_isnt_live_cant_be_ended(repository: Repository) -> None:
    with pytest.raises(NameUnknownError):
        await repository.tags.untag("v1")
    await push_image(repository, tags=["v1"])
    for tag in ["v2", *MALFORMED]:
        with pytest.raises(TagUnknownError):
            await repository.tags.untag(tag)
    await repository.tags.untag("v1")
    with pytest.raises(TagUnknownError):
        await repository.tags.untag("v1")


@covers("TagService.list")
async def test_tags_come_in_byte_order(repository: Repository) -> None:
    assert sorted(NAMES) == NAMES
    await push_image(repository, tags=list(reversed(NAMES)))
    assert await listed(repository.tags.list()) == NAMES


@covers("TagService.list")
async def test_a_listing_begins_behind_any_text(repository: Repository) -> None:
    await push_image(repository, tags=NAMES)
    for after in [*NAMES, "", "!", "v", "v1\0", "v1\0x", "é", "A\U0001f600", "zzz", "~", "1\x7f", "\ud800"]:
        expected = [name for name in NAMES if name > after]
        assert await listed(repository.tags.list(after=after)) == expected, after


@covers("TagService.list")
async def test_a_listing_is_cut_at_its_limit(repository: Repository) -> None:
    await push_image(repository, tags=NAMES)
    for limit in (0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, len(NAMES), len(NAMES) + 1):
        assert await listed(repository.tags.list(limit=limit)) == NAMES[:limit]
        assert await listed(repository.tags.list(after="a", limit=limit)) == NAMES[10:][:limit]


@covers("TagService.list")
async def test_listings_are_re_entrant(repository: Repository) -> None:
    await push_image(repository, tags=NAMES)
    first, second, third = repository.tags.list(), repository.tags.list(), repository.tags.list(after="V1")
    seen = []
    async for name in first:
        seen.append((name, await anext(second), await anext(third, None)))
        assert await listed(repository.tags.list(after=name)) == NAMES[len(seen) :]
    assert seen == [(name, name, later) for name, later in zip(NAMES, NAMES[7:] + [None] * 7, strict=True)]


@covers("TagService.list")
async def test_a_listing_goes_on_while_tags_come_and_go(repository: Repository) -> None:
    manifest = await push_image(repository, tags=NAMES)
    names = repository.tags.list()
    seen = [await anext(names)]
    for name in NAMES[:8]:
        await repository.tags.untag(name)
    await repository.tags.tag("z", manifest.digest)
    seen += await listed(names)
    assert seen == sorted(set(seen))
    assert seen[-10:] == [*NAMES[8:], "z"]


@covers("TagService.list", "TagService.lookup", "TagService.history")
async def test_a_repository_that_doesnt_exist_has_no_tags_to_list(repository: Repository) -> None:
    for listing in (repository.tags.list(), repository.tags.lookup(NOWHERE), repository.tags.history("v1")):
        with pytest.raises(NameUnknownError):
            await anext(listing)


@covers("TagService.lookup")
async def test_lookup_finds_the_live_tags_of_a_digest(repository: Repository) -> None:
    first = await push_image(repository, b"1", tags=NAMES)
    second = await push_image(repository, b"2", tags=["v1", "other"])
    await repository.tags.untag("a")
    rest = [name for name in NAMES if name not in {"v1", "a"}]
    assert await listed(repository.tags.lookup(first.digest)) == rest
    assert await listed(repository.tags.lookup(second.digest)) == ["other", "v1"]
    assert await listed(repository.tags.lookup(NOWHERE)) == []
    assert await listed(repository.tags.lookup(first.digest, limit=0)) == []
    assert await listed(repository.tags.lookup(first.digest, after="1", limit=PAGE + 1)) == rest[2 : PAGE + 3]
    assert await listed(repository.tags.lookup(first.digest, after="v\0")) == [name for name in rest if name > "v"]
    both = repository.tags.lookup(first.digest), repository.tags.lookup(first.digest)
    assert [(one, await anext(both[1])) async for one in both[0]] == [(name, name) for name in rest]


@covers("TagService.list", "TagService.tag")
async def test_tags_are_their_repositorys_own(namespace: Namespace, repository: Repository) -> None:
    await push_image(repository, tags=["v1"])
    deeper = await push_image(namespace.repository("acme/web/deep"), tags=["v2"])
    await namespace.repository("acme/web/deep").tags.tag("v3", deeper.digest)
    assert await listed(repository.tags.list()) == ["v1"]
    assert await listed(namespace.repository("acme/web/deep").tags.list()) == ["v2", "v3"]
