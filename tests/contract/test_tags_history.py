"""What tags pointed to, and moving them under conditions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from distsql.contract import Namespace, Repository
from distsql.errors import ManifestUnknownError, NameUnknownError, TagChangedError
from distsql.oci.digest import Digest
from distsql.values import ANY, Caller, TagMove
from tests.contract.conftest import PAGE
from tests.contract.covering import covers
from tests.registry.pushing import push_image

NOWHERE = Digest.of(b"nowhere")
MOMENT = timedelta(microseconds=1)


async def history(repository: Repository, tag: str = "v1") -> list[TagMove]:
    return [move async for move in repository.tags.history(tag)]


async def push(repository: Repository, count: int) -> list[Digest]:
    return [(await push_image(repository, b"layer", n=str(number))).digest for number in range(count)]


@covers("TagService.history")
async def test_history_has_every_move_newest_first(repository: Repository, elsewhere: Namespace) -> None:
    one, two = await push(repository, 2)
    pointed = [one, two] * PAGE + [one]
    for digest in pointed:
        await repository.tags.tag("v1", digest)
    moves = await history(elsewhere.repository("acme/web"))
    assert [move.digest for move in reversed(moves)] == pointed
    assert {(move.tag, move.actor) for move in moves} == {("v1", "tester")}
    assert (moves[0].valid_to, moves[0].ended_by) == (None, None)
    for later, earlier in pairwise(moves):
        assert earlier.valid_from < later.valid_from
        assert earlier.valid_to == later.valid_from
        assert earlier.ended_by == "tester"


@covers("TagService.history")
async def test_history_is_read_in_parts(repository: Repository) -> None:
    one, two = await push(repository, 2)
    for digest in [one, two] * PAGE:
        await repository.tags.tag("v1", digest)
    moves = await history(repository)
    for limit in (0, 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 1):
        assert [move async for move in repository.tags.history("v1", limit=limit)] == moves[:limit]
    before = moves[2].valid_from
    assert [move async for move in repository.tags.history("v1", before=before)] == moves[3:]
    assert [move async for move in repository.tags.history("v1", before=before, limit=2)] == moves[3:5]


@covers("TagService.history", "TagService.untag")
async def test_history_outlives_the_tag(namespace: Namespace, repository: Repository) -> None:
    [digest] = await push(repository, 1)
    await repository.tags.tag("v1", digest)
    await namespace.acting_as(Caller(actor="bob")).repository("acme/web").tags.untag("v1")
    [ended] = await history(repository)
    assert (ended.digest, ended.actor, ended.ended_by) == (digest, "tester", "bob")
    assert ended.valid_to is not None
    assert ended.valid_from < ended.valid_to
    await repository.tags.tag("v1", digest)
    again, before = await history(repository)
    assert before == ended
    assert before.valid_to is not None
    assert again.valid_from >= before.valid_to
    assert again.valid_to is None


@covers("TagService.history")
async def test_a_tag_that_never_was_has_no_history(repository: Repository) -> None:
    await push_image(repository, tags=["v1"])
    for tag in ("v2", "", "v1\0", "-", "v" * 129):
        assert await history(repository, tag) == []


@covers("TagService.history")
async def test_a_new_manifest_of_an_old_digest_doesnt_change_history(repository: Repository) -> None:
    manifest = await push_image(repository, tags=["v1"])
    await repository.manifests.delete(manifest.digest)
    before = await history(repository)
    await repository.manifests.put(manifest, ["v2"])
    assert await history(repository) == before


@covers("TagService.resolve")
async def test_resolve_tells_any_instant(repository: Repository) -> None:
    digests = await push(repository, 3)
    for digest in digests:
        await repository.tags.tag("v1", digest)
    await repository.tags.untag("v1")
    moves = (await history(repository))[::-1]
    assert [move.digest for move in moves] == digests
    assert await repository.tags.resolve("v1", at=moves[0].valid_from - MOMENT) is None
    for move in moves:
        assert move.valid_to is not None
        assert await repository.tags.resolve("v1", at=move.valid_from) == move.digest
        assert await repository.tags.resolve("v1", at=move.valid_to - MOMENT) == move.digest
    assert moves[-1].valid_to is not None
    assert await repository.tags.resolve("v1", at=moves[-1].valid_to) is None
    assert await repository.tags.resolve("v1", at=datetime.now(UTC)) is None


@covers("TagService.resolve")
async def test_resolve_of_a_live_tag_and_of_a_deleted_manifest(repository: Repository) -> None:
    manifest = await push_image(repository, tags=["v1"])
    [move] = await history(repository)
    far = datetime.now(UTC) + timedelta(days=365)
    assert await repository.tags.resolve("v1", at=far) == manifest.digest
    await repository.manifests.delete(manifest.digest)
    assert await repository.tags.resolve("v1", at=far) is None
    assert await repository.tags.resolve("v1", at=move.valid_from) == manifest.digest


@covers("TagService.resolve")
async def test_resolve_of_what_never_was(repository: Repository) -> None:
    with pytest.raises(NameUnknownError):
        await repository.tags.resolve("v1", at=datetime.now(UTC))
    await push_image(repository, tags=["v1"])
    for tag in ("v2", "", "v1\0"):
        assert await repository.tags.resolve(tag, at=datetime.now(UTC)) is None


@covers("TagService.tag")
async def test_a_tag_moves_only_from_what_was_expected(repository: Repository) -> None:
    one, two = await push(repository, 2)
    with pytest.raises(TagChangedError) as refusal:
        await repository.tags.tag("v1", one, expected=two)
    assert refusal.value.detail == {"tag": "v1", "digest": None}
    await repository.tags.tag("v1", one, expected=None)
    for unexpected in (None, two):
        with pytest.raises(TagChangedError) as refusal:
            await repository.tags.tag("v1", two, expected=unexpected)
        assert refusal.value.detail == {"tag": "v1", "digest": str(one)}
    await repository.tags.tag("v1", one, expected=one)
    await repository.tags.tag("v1", two, expected=one)
    await repository.tags.tag("v1", one, expected=ANY)
    assert [move.digest for move in await history(repository)] == [one, two, one]


@covers("TagService.tag")
async def test_an_ended_tag_is_expected_not_to_exist(repository: Repository) -> None:
    one, two = await push(repository, 2)
    await repository.tags.tag("v1", one)
    await repository.tags.untag("v1")
    with pytest.raises(TagChangedError):
        await repository.tags.tag("v1", two, expected=one)
    await repository.tags.tag("v1", two, expected=None)
    assert (await repository.tags.get("v1")).digest == two


@covers("TagService.tag")
async def test_a_condition_doesnt_excuse_an_unknown_manifest(repository: Repository) -> None:
    [one] = await push(repository, 1)
    await repository.tags.tag("v1", one)
    for expected in (ANY, None, one):
        with pytest.raises(ManifestUnknownError):
            await repository.tags.tag("v1", NOWHERE, expected=expected)
    assert (await repository.tags.get("v1")).digest == one


@covers("TagService.tag")
async def test_of_many_with_the_same_expectation_one_wins(repository: Repository, elsewhere: Namespace) -> None:
    start, *digests = await push(repository, 7)
    both = [repository.tags, elsewhere.repository("acme/web").tags] * 3
    for expected in (None, start):
        outcomes = await asyncio.gather(
            *(tags.tag("v1", digest, expected=expected) for tags, digest in zip(both, digests, strict=True)),
            return_exceptions=True,
        )
        assert [outcome for outcome in outcomes if not isinstance(outcome, TagChangedError)] == [None]
        winner = digests[outcomes.index(None)]
        assert (await repository.tags.get("v1")).digest == winner
        await repository.tags.tag("v1", start)
    assert [move.digest for move in await history(repository)][::2] == [start, start]


@covers("TagService.tag", "TagService.history")
async def test_of_many_writers_history_has_them_all(repository: Repository, elsewhere: Namespace) -> None:
    digests = await push(repository, 8)
    both = [repository.tags, elsewhere.repository("acme/web").tags] * 4
    returned: list[Digest] = []

    async def move(number: int) -> None:
        await both[number].tag("v1", digests[number])
        returned.append(digests[number])

    await asyncio.gather(*(move(number) for number in range(8)))
    moves = await history(repository)
    assert sorted(move.digest for move in moves) == sorted(digests)
    assert all(earlier.valid_to == later.valid_from for later, earlier in pairwise(moves))
    assert (await repository.tags.get("v1")).digest == moves[0].digest
