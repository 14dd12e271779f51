from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.sql import tag_pages, tags
from distsql.sql.repositories import RepositoryRow
from distsql.sql.tags import TagMoveRow
from distsql.sql.transactions import Transaction
from tests.sql.rows import look, make_digests, make_repository, mark_deleted

END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@pytest.fixture
async def targets(tx: Transaction, repository: RepositoryRow) -> list[Digest]:
    return await make_digests(tx, repository, range(4))


async def moves(tx: Transaction, repository: RepositoryRow, name: str) -> list[TagMoveRow]:
    return await tags.list_tag_moves(tx, repository, name, before=END_OF_TIME, limit=100)


async def names_of(tx: Transaction, name: str = "acme/web", *, after: str = "", limit: int = 10) -> list[str] | None:
    return await tag_pages.list_tags(tx, RepositoryName.parse(name), after=after, limit=limit)


def point(tx: Transaction, repository: RepositoryRow, name: str, target: Digest, actor: str = "ann") -> None:
    tags.point_tags(tx, repository, tags.targets([name], digest=target, actor=actor))


async def turn_clock_back(tx: Transaction) -> None:
    """As if all that happened so far had happened tomorrow."""
    await look(
        tx,
        "update tags set valid_from = valid_from + '1 day', valid_to = valid_to + '1 day' returning 1",
    )


def assert_gapless(history: list[TagMoveRow]) -> None:
    """Newest first; each period ends where the next one begins."""
    for newer, older in pairwise(history):
        assert older.valid_to == newer.valid_from
    assert all(move.valid_to is None or move.valid_to > move.valid_from for move in history)


async def test_a_new_tag_points_to_its_manifest(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest]
) -> None:
    point(tx, repository, "latest", targets[0])
    row = await tags.find_tag(tx, repository, "latest")
    assert row is not None
    assert row.digest == targets[0]
    [move] = await moves(tx, repository, "latest")
    assert (move.digest, move.valid_to, move.actor, move.ended_by) == (targets[0], None, "ann", None)


async def test_a_move_goes_into_the_history(tx: Transaction, repository: RepositoryRow, targets: list[Digest]) -> None:
    for target, actor in zip(targets, ["ann", "bob", "cid", "dan"], strict=True):
        point(tx, repository, "latest", target, actor)
    history = await moves(tx, repository, "latest")
    assert [move.digest for move in history] == targets[::-1]
    assert [(move.actor, move.ended_by) for move in history] == [
        ("dan", None),
        ("cid", "dan"),
        ("bob", "cid"),
        ("ann", "bob"),
    ]
    assert_gapless(history)


async def test_pointing_a_tag_to_where_it_points_is_no_move(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest]
) -> None:
    point(tx, repository, "latest", targets[0], "ann")
    before = await moves(tx, repository, "latest")
    point(tx, repository, "latest", targets[0], "bob")
    assert await moves(tx, repository, "latest") == before


async def test_back_and_forth_is_two_moves(tx: Transaction, repository: RepositoryRow, targets: list[Digest]) -> None:
    for target in (targets[0], targets[1], targets[0]):
        point(tx, repository, "latest", target)
    assert [move.digest for move in await moves(tx, repository, "latest")] == [targets[0], targets[1], targets[0]]


async def test_a_move_when_the_clock_was_set_back(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest]
) -> None:
    point(tx, repository, "latest", targets[0])
    await turn_clock_back(tx)
    for target in targets[1:]:
        point(tx, repository, "latest", target)
    history = await moves(tx, repository, "latest")
    assert [move.digest for move in history] == targets[::-1]
    assert_gapless(history)


async def test_the_end_when_the_clock_was_set_back(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest]
) -> None:
    point(tx, repository, "latest", targets[0])
    await turn_clock_back(tx)
    assert await tags.end_tag(tx, repository, "latest", actor="bob") == targets[0]
    assert_gapless(await moves(tx, repository, "latest"))


@pytest.mark.parametrize("create", [True, False])
async def test_a_new_life_begins_behind_the_old_one_when_the_clock_was_set_back(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest], create: bool
) -> None:
    point(tx, repository, "latest", targets[0])
    await tags.end_tag(tx, repository, "latest", actor="bob")
    await turn_clock_back(tx)
    if create:
        assert await tags.create_tags(tx, repository, tags.targets(["latest"], digest=targets[1], actor="cid"))
    else:
        point(tx, repository, "latest", targets[1])
    history = await moves(tx, repository, "latest")
    assert [move.digest for move in history] == [targets[1], targets[0]]
    assert_gapless(history)


async def test_a_hundred_tags_in_one_statement(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest]
) -> None:
    names = [f"v{number}" for number in range(100)]
    tags.point_tags(tx, repository, tags.targets(names[:50], digest=targets[0], actor="ann"))
    tags.point_tags(tx, repository, tags.targets(names[::-1], digest=targets[1], actor="bob"))
    assert await names_of(tx, limit=1000) == sorted(names)
    assert [len(await moves(tx, repository, name)) for name in ("v0", "v49", "v50", "v99")] == [2, 2, 1, 1]


async def test_an_ended_tag_is_history_and_may_begin_again(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest]
) -> None:
    point(tx, repository, "latest", targets[0])
    assert await tags.end_tag(tx, repository, "latest", actor="bob") == targets[0]
    assert await tags.end_tag(tx, repository, "latest", actor="bob") is None
    assert await tags.find_tag(tx, repository, "latest") is None
    assert await names_of(tx) == []
    point(tx, repository, "latest", targets[1], "cid")
    newest, oldest = await moves(tx, repository, "latest")
    assert (newest.digest, newest.ended_by) == (targets[1], None)
    assert (oldest.digest, oldest.ended_by) == (targets[0], "bob")
    assert oldest.valid_to is not None
    assert oldest.valid_to <= newest.valid_from


async def test_history_is_paged_from_the_newest(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest]
) -> None:
    for target in targets:
        point(tx, repository, "latest", target)
    whole = await moves(tx, repository, "latest")
    first = await tags.list_tag_moves(tx, repository, "latest", before=END_OF_TIME, limit=3)
    rest = await tags.list_tag_moves(tx, repository, "latest", before=first[-1].valid_from, limit=3)
    assert first + rest == whole


async def test_what_a_tag_pointed_to_at_an_instant(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest]
) -> None:
    point(tx, repository, "latest", targets[0])
    point(tx, repository, "latest", targets[1])
    await tags.end_tag(tx, repository, "latest", actor="bob")
    second, first = await moves(tx, repository, "latest")
    assert first.valid_to is not None
    assert second.valid_to is not None
    moment = timedelta(microseconds=1)
    for at, expected in (
        (first.valid_from - moment, None),
        (first.valid_from, targets[0]),
        (first.valid_to - moment, targets[0]),
        (first.valid_to, targets[1]),
        (second.valid_to - moment, targets[1]),
        (second.valid_to, None),
    ):
        assert await tags.resolve_tag(tx, repository, "latest", at=at) == expected


async def test_a_live_tag_resolves_now_and_later(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest]
) -> None:
    point(tx, repository, "latest", targets[0])
    assert await tags.resolve_tag(tx, repository, "latest", at=END_OF_TIME) == targets[0]
    assert await tags.resolve_tag(tx, repository, "other", at=END_OF_TIME) is None


async def test_create_tag_takes_no_live_tag(tx: Transaction, repository: RepositoryRow, targets: list[Digest]) -> None:
    assert await tags.create_tags(tx, repository, tags.targets(["latest"], digest=targets[0], actor="ann"))
    assert not await tags.create_tags(tx, repository, tags.targets(["latest"], digest=targets[1], actor="bob"))
    assert await tags.lock_tag(tx, repository, "latest") == targets[0]
    await tags.end_tag(tx, repository, "latest", actor="ann")
    assert await tags.lock_tag(tx, repository, "latest") is None
    assert await tags.create_tags(tx, repository, tags.targets(["latest"], digest=targets[1], actor="bob"))


async def test_names_are_listed_in_byte_order_behind_the_last_one(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest]
) -> None:
    # Prefixes of each other, capitals, and characters that locales sort elsewhere (distribution #4898).
    names = [
        "1",
        "1.0",
        "1.0-rc",
        "1.0.0",
        "1.0_x",
        "10",
        "A",
        "Z",
        "_",
        "a",
        "a-b",
        "a.b",
        "a_b",
        "aa",
        "v1",
        "v10",
        "v2",
    ]
    tags.point_tags(tx, repository, tags.targets(names, digest=targets[0], actor="ann"))
    tags.point_tags(tx, repository, tags.targets(["elsewhere"], digest=targets[1], actor="ann"))
    listed, after = [], ""
    while page := await names_of(tx, after=after, limit=2):
        listed += page
        after = listed[-1]
    assert listed == sorted([*names, "elsewhere"])
    looked_up, after = [], ""
    while rows := await tag_pages.list_tags_of_digest(tx, repository, targets[0], after=after, limit=3):
        looked_up += [row.name for row in rows]
        after = looked_up[-1]
    assert looked_up == sorted(names)


async def test_a_page_of_none_is_empty(tx: Transaction, repository: RepositoryRow, targets: list[Digest]) -> None:
    point(tx, repository, "latest", targets[0])
    assert await names_of(tx, limit=0) == []
    assert await names_of(tx, after="latest") == []


@pytest.mark.usefixtures("repository")
async def test_no_page_of_a_repository_that_is_not_there(tx: Transaction) -> None:
    assert await names_of(tx) == []
    assert await names_of(tx, "acme/nothing") is None
    assert await names_of(tx, "nobody/web") is None


async def test_each_who_asks_at_once_gets_a_page_of_its_own(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest]
) -> None:
    """As `gathering` asks for several: another repository, another place to begin, another length."""
    await make_repository(tx, "acme/empty")
    tags.point_tags(tx, repository, tags.targets(["a", "b", "c"], digest=targets[0], actor="ann"))
    asked = [("web", "", 2), ("empty", "", 2), ("nothing", "", 2), ("web", "a", 9), ("web", "c", 9), ("web", "", 0)]
    statement = tag_pages.LIST_TAGS
    lists = statement.lists([{"path": path, "only_id": None, "after": after, "size": n} for path, after, n in asked])
    rows = await look(tx, statement.sql, tenant="acme", **lists)
    assert rows == [(1, ["a", "b"]), (2, []), (4, ["b", "c"]), (5, []), (6, [])]


async def test_all_tags_of_a_manifest_end_together(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest]
) -> None:
    tags.point_tags(tx, repository, tags.targets(["a", "b", "c"], digest=targets[0], actor="ann"))
    point(tx, repository, "b", targets[1])
    ended = await mark_deleted(tx, repository, targets[0], actor="bob")
    assert sorted(ended) == ["a", "c"]
    assert await names_of(tx) == ["b"]
    rows = await look(tx, "select deleted_by, deleted_tags from manifests where deleted_at is not null")
    assert rows == [("bob", ended)]


async def test_tags_of_one_repository_are_not_another_s(
    tx: Transaction, repository: RepositoryRow, targets: list[Digest]
) -> None:
    other = await make_repository(tx, "acme/other")
    [target] = await make_digests(tx, other, [0])
    assert target == targets[0]
    point(tx, repository, "here", targets[0])
    point(tx, other, "there", target)
    assert await names_of(tx) == ["here"]
    assert await tags.end_tag(tx, repository, "there", actor="ann") is None
    assert await mark_deleted(tx, repository, targets[3], actor="ann") == []
    assert await tags.find_tag(tx, other, "there") is not None
