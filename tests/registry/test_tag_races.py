"""Many writers of one tag (Quay #4966, Harbor #23118: two live tags, or an update that was acknowledged and lost)."""

from __future__ import annotations

import asyncio
import random
from itertools import combinations, pairwise

import psycopg

from distsql.app import Registry
from distsql.oci.digest import Digest
from distsql.registry.namespace import StoredNamespace
from distsql.settings import Settings
from distsql.values import TagMove
from tests.registry.pushing import CONFIG, image, push_blob

WRITERS = 64


async def push_images(namespace: StoredNamespace, count: int) -> list[Digest]:
    repository = namespace.repository("acme/web")
    await push_blob(repository, CONFIG)
    return [await repository.manifests.put(image(n=str(number))) for number in range(count)]


class Clock:
    """Numbers events in the order in which they happen."""

    def __init__(self) -> None:
        self._now = 0

    def tick(self) -> int:
        self._now += 1
        return self._now


async def test_64_writers_move_one_tag(
    namespace: StoredNamespace, settings: Settings, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    digests = await push_images(namespace, WRITERS)
    clock = Clock()
    turns: dict[Digest, tuple[int, int]] = {}

    async with Registry(settings) as elsewhere:
        processes = [namespace, elsewhere.namespace]

        async def move(number: int) -> None:
            await asyncio.sleep(random.uniform(0, 0.2))
            began = clock.tick()
            await processes[number % 2].repository("acme/web").tags.tag("v1", digests[number])
            turns[digests[number]] = (began, clock.tick())

        await asyncio.gather(*(move(number) for number in range(WRITERS)))

    live = sql.execute("select count(*), count(*) filter (where valid_to is null) from tags where name = 'v1'")
    assert live.fetchone() == (WRITERS, 1)
    moves = [move async for move in namespace.repository("acme/web").tags.history("v1")][::-1]
    assert_whole(moves)
    assert {move.digest for move in moves} == set(digests)
    assert (await namespace.repository("acme/web").tags.get("v1")).digest == moves[-1].digest
    # Who began when another had returned comes behind it: so the last 201 is not overwritten by an earlier one.
    for earlier, later in combinations([turns[move.digest] for move in moves], 2):
        assert not later[1] < earlier[0]


def assert_whole(moves: list[TagMove]) -> None:
    """Oldest first, without gaps and overlaps, and live."""
    assert all(earlier.valid_to == later.valid_from for earlier, later in pairwise(moves))
    assert all(move.valid_to is None or move.valid_from < move.valid_to for move in moves)
    assert [move for move in moves if move.valid_to is None] == moves[-1:]


async def test_a_chain_of_conditions_loses_no_update(namespace: StoredNamespace) -> None:
    """Each writer moves the tag from what it read: as with a counter, no success may be overwritten unseen."""
    digests = await push_images(namespace, 8)
    tags = namespace.repository("acme/web").tags
    await tags.tag("v1", digests[0])
    moves = 0

    async def move(number: int) -> None:
        nonlocal moves
        for _ in range(5):
            current = (await tags.get("v1")).digest
            target = digests[(digests.index(current) + 1 + number) % len(digests)]
            try:
                await tags.tag("v1", target, expected=current)
            except Exception:  # noqa: BLE001  # refused: whatever the reason, it must not show
                continue
            moves += target != current

    await asyncio.gather(*(move(number) for number in range(6)))
    history = [move async for move in tags.history("v1")][::-1]
    assert_whole(history)
    assert len(history) == 1 + moves


async def test_puts_tags_and_ends_of_one_tag_at_once(
    namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    repository = namespace.repository("acme/web")
    digests = await push_images(namespace, 4)

    async def churn(number: int) -> None:
        for turn in range(6):
            digest = digests[(number + turn) % 4]
            if number == 0:
                await repository.manifests.delete(digest)
                await repository.manifests.put(image(n=str(digests.index(digest))), ["v1"])
            elif number == 1:
                await asyncio.gather(repository.tags.untag("v1"), return_exceptions=True)
            else:
                await asyncio.gather(repository.tags.tag("v1", digest), return_exceptions=True)

    await asyncio.gather(*(churn(number) for number in range(6)))
    live = sql.execute("select count(*) from tags where name = 'v1' and valid_to is null").fetchone()
    assert live in ((0,), (1,))
    moves = [move async for move in repository.tags.history("v1")][::-1]
    assert all(move.valid_to is not None and move.valid_from < move.valid_to for move in moves[:-1])
    dangling = sql.execute(
        "select count(*) from tags where valid_to is null and not exists (select from manifests where"
        " manifests.repository_id = tags.repository_id and manifests.digest = tags.digest)"
    )
    assert dangling.fetchone() == (0,)
