"""Retention's decisions, in SQL, against the same rules written down in Python one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from distsql.oci.digest import Digest
from distsql.registry.retention import columns
from distsql.registry.retention_rules import Policy, Rule

Connection = psycopg.Connection[tuple[Any, ...]]
Found = Mapping[tuple[str | None, int], tuple[int, int]]
HOUR = timedelta(hours=1)
NAMES = ["a", "a1", "a2", "b", "b1", "v_1", "vx1"]
PATTERNS = ["*", "a*", "?1", "b", "v_?", "*1"]


@dataclass(frozen=True)
class Tag:
    image: int
    pushed: int
    pulled: int | None


@dataclass(frozen=True)
class World:
    """Hours are ago. An image may be a child of the index ``parent`` (-1: of none), and have a subject."""

    images: list[tuple[int, int | None, bool]]  # pushed, pulled, signed
    tags: dict[str, Tag]
    children: set[tuple[int, int]]
    subjects: dict[int, int]
    immutable: list[str]
    policies: list[Policy]
    ended: dict[int, int] = field(default_factory=dict)


def rules(actions: list[str]) -> st.SearchStrategy[Rule]:
    def make(made: tuple[str, str, list[str], str, int]) -> Rule:
        action, selects, patterns, criterion, number = made
        return Rule(
            action,
            selects,
            tuple(sorted(set(patterns))) if selects == "tagged" else (),
            criterion,
            latest=1 + number % 4 if criterion == "latest" else None,
            age=number * HOUR + HOUR / 2 if criterion in {"pushed", "used"} else None,
        )

    criteria = ["latest", "pushed", "used"] if actions == ["delete"] else ["all", "latest", "pushed", "used", "signed"]
    return st.tuples(
        st.sampled_from(actions),
        st.sampled_from(["tagged", "tagged", "untagged", "any"]),
        st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2),
        st.sampled_from(criteria),
        st.integers(0, 12),
    ).map(make)


def policies() -> st.SearchStrategy[Policy]:
    own = st.lists(rules(["keep", "delete"]), min_size=1, max_size=4).map(lambda r: Policy(dict(enumerate(r, 1))))
    # What the import would refuse (any before others) has a meaning all the same.
    ecr = st.lists(rules(["delete"]), min_size=1, max_size=4).map(lambda r: Policy(dict(enumerate(r, 1)), "ecr"))
    return st.one_of(own, ecr)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 7))
    numbers, hours = st.integers(0, count - 1), st.integers(0, 12)
    images = draw(st.lists(st.tuples(hours, st.none() | hours, st.booleans()), min_size=count, max_size=count))
    tags = draw(st.dictionaries(st.sampled_from(NAMES), st.builds(Tag, numbers, hours, st.none() | hours)))
    if draw(st.booleans()):
        about = draw(numbers)
        tags[f"sha256-{digest(about).encoded}.sig"] = Tag(draw(numbers), 1, None)
    # Downwards only: what a manifest refers to was there before it.
    pairs = draw(st.sets(st.tuples(numbers, numbers), max_size=3))
    return World(
        images,
        tags,
        {(parent, child) for parent, child in pairs if parent > child},
        {a: b for a, b in draw(st.dictionaries(numbers, st.integers(0, count), max_size=2)).items() if a != b},
        draw(st.lists(st.sampled_from(PATTERNS[1:]), max_size=1)),
        draw(st.lists(policies(), min_size=1, max_size=2)),
        draw(st.dictionaries(numbers, hours, max_size=2)),
    )


def digest(number: int) -> Digest:
    return Digest.of(f"image {number}".encode())


# -- the model ---------------------------------------------------------------------------------------------------------


def judge(world: World) -> dict[tuple[str | None, Digest], bool]:
    """Every decision: whether a tag, or a manifest, goes."""
    images = range(len(world.images))
    owned = {child for _, child in world.children} | {a for a, b in world.subjects.items() if b in images}
    companions = {name for name in world.tags if name.startswith("sha256-")}
    tags_of = {image: [name for name, tag in world.tags.items() if tag.image == image] for image in images}
    tagged = {image for image in images if set(tags_of[image]) - companions}
    candidates = [image for image in images if image in tagged or (not tags_of[image] and image not in owned)]
    units: list[tuple[str | None, int]] = [
        (name, tag.image) for name, tag in world.tags.items() if name not in companions
    ]
    units += [(None, image) for image in candidates if image not in tagged]
    kept: set[tuple[str | None, int]] = set()
    going: set[tuple[str | None, int]] = set()
    expired: set[int] = set()
    for policy in world.policies:
        if policy.kind == "own":
            for rule in policy.rules.values():
                selected = [unit for unit in units if selects_unit(rule, unit[0])]
                good = fulfilling(rule, {unit: times(world, unit) for unit in selected}, world)
                (kept if rule.action == "keep" else going).update(
                    good if rule.action == "keep" else set(selected) - good
                )
        else:
            expired |= first_decides(world, policy, candidates, tagged, tags_of)
    fixed = {(name, tag.image) for name, tag in world.tags.items() if is_fixed(world, name, companions)}
    keeping = {image for _, image in kept | fixed}
    expired -= keeping | owned
    decided: dict[tuple[str | None, Digest], bool] = {
        (name, digest(tag.image)): (name, tag.image) not in kept | fixed
        and ((name, tag.image) in going or tag.image in expired)
        for name, tag in world.tags.items()
    }
    for image in candidates:
        if image not in tagged or image in expired:
            unit = (None, image)
            decided[None, digest(image)] = unit not in kept and (unit in going or image in expired)
    return decided


def is_fixed(world: World, name: str, companions: set[str]) -> bool:
    return name in companions or any(fnmatchcase(name, pattern) for pattern in world.immutable)


def selects_unit(rule: Rule, name: str | None) -> bool:
    if rule.selects == "any":
        return True
    if name is None:
        return rule.selects == "untagged"
    return rule.selects == "tagged" and any(fnmatchcase(name, pattern) for pattern in rule.patterns)


def times(world: World, unit: tuple[str | None, int]) -> tuple[int, int]:
    """Hours since the push, and since the last use."""
    name, image = unit
    if name is not None:
        pushed, pulled = world.tags[name].pushed, world.tags[name].pulled
    else:
        pushed, pulled = world.images[image][0], world.images[image][1]
        pushed = min(pushed, world.ended.get(image, pushed))
    return pushed, min(pushed, pushed if pulled is None else pulled)


def fulfilling(rule: Rule, found: Found, world: World) -> set[tuple[str | None, int]]:
    if rule.criterion == "all":
        return set(found) if rule.action == "keep" else set()
    if rule.criterion == "signed":
        return {unit for unit in found if world.images[unit[1]][2]}
    if rule.criterion == "latest":
        newest = sorted(
            found, key=lambda unit: (-found[unit][0], unit[0] is None, unit[0] or "", digest(unit[1])), reverse=True
        )
        return set(newest[: rule.latest])
    assert rule.age is not None
    return {unit for unit in found if found[unit][rule.criterion == "used"] * HOUR < rule.age}


def first_decides(
    world: World, policy: Policy, candidates: list[int], tagged: set[int], tags_of: dict[int, list[str]]
) -> set[int]:
    decided: set[int] = set()
    expired: set[int] = set()
    for rule in policy.rules.values():
        selected = [image for image in candidates if selects_image(rule, image, tagged, tags_of[image])]
        found: Found = {(None, image): (world.images[image][0], used(world.images[image])) for image in selected}
        good = {image for _, image in fulfilling(rule, found, world)}
        expired |= set(selected) - good - decided
        decided |= set(selected)
    return expired


def used(image: tuple[int, int | None, bool]) -> int:
    return min(image[0], image[0] if image[1] is None else image[1])


def selects_image(rule: Rule, image: int, tagged: set[int], names: list[str]) -> bool:
    if rule.selects == "any":
        return True
    if rule.selects == "untagged":
        return image not in tagged
    return image in tagged and all(any(fnmatchcase(name, each) for name in names) for each in rule.patterns)


# -- the catalogue -----------------------------------------------------------------------------------------------------

FILL = """
with image as (
    select i.*, ('\\x' || i.packed)::bytea as digest from jsonb_to_recordset(%(images)s) i (
        packed text, pushed int, pulled int, signed bool, subject text, ended int
    )
), made as (
    insert into manifests
        (tenant_id, repository_id, digest, media_type, subject_digest, length, payload, pushed_at, pushed_by)
    select 1, 1, digest, 'x', ('\\x' || subject)::bytea, 1, 'x', now() - interval '1 hour' * pushed, 'ann' from image
), pulls as (
    insert into manifest_pulls (tenant_id, repository_id, digest, last_pulled_at)
    select 1, 1, digest, now() - interval '1 hour' * pulled from image where pulled is not null
), signed as (
    insert into signatures (tenant_id, repository_id, manifest_digest, digest, payload)
    select 1, 1, digest, digest, 'x' from image where signed
), past as (
    insert into tags (tenant_id, repository_id, name, digest, valid_from, valid_to, actor, ended_by)
    select 1, 1, 'past', digest, now() - interval '1 year' - interval '1 second' * row_number() over (),
        now() - interval '1 hour' * ended, 'ann', 'bob'
    from image where ended is not null
), tag as (
    select t.*, ('\\x' || t.packed)::bytea as digest from jsonb_to_recordset(%(tags)s) t (
        name text, packed text, pushed int, pulled int
    )
), tagged as (
    insert into tags (tenant_id, repository_id, name, digest, valid_from, actor)
    select 1, 1, name, digest, now() - interval '1 hour' * pushed, 'ann' from tag
), asked as (
    insert into tag_pulls (tenant_id, repository_id, name, last_pulled_at)
    select 1, 1, name, now() - interval '1 hour' * pulled from tag where pulled is not null
)
insert into descriptors
    (tenant_id, repository_id, manifest_digest, position, role, media_type, length, digest, required)
select 1, 1, ('\\x' || parent)::bytea, row_number() over (), 'manifest', 'x', 1, ('\\x' || child)::bytea, true
from jsonb_to_recordset(%(children)s) c (parent text, child text)
"""


def fill(connection: Connection, world: World) -> None:
    connection.execute("set local session_replication_role = replica")
    connection.execute(
        "insert into tenants (id, name) values (1, 'acme'); "
        "insert into repositories (tenant_id, id, path) values (1, 1, 'web')"
    )
    connection.execute("update repositories set immutable_tags = %s", [world.immutable])
    images = [
        {
            "packed": digest(number).packed.hex(),
            "pushed": pushed,
            "pulled": pulled,
            "signed": signed,
            "subject": digest(world.subjects[number]).packed.hex() if number in world.subjects else None,
            "ended": world.ended.get(number),
        }
        for number, (pushed, pulled, signed) in enumerate(world.images)
    ]
    tags = [
        {"name": name, "packed": digest(tag.image).packed.hex(), "pushed": tag.pushed, "pulled": tag.pulled}
        for name, tag in world.tags.items()
    ]
    children = [
        {"parent": digest(parent).packed.hex(), "child": digest(child).packed.hex()} for parent, child in world.children
    ]
    connection.execute(FILL, {"images": Jsonb(images), "tags": Jsonb(tags), "children": Jsonb(children)})
    for number, policy in enumerate(world.policies):
        insert_policy(connection, number, policy)


def insert_policy(connection: Connection, number: int, policy: Policy) -> None:
    connection.execute(
        "insert into retention_policies (tenant_id, id, repository_id, kind, set_by) values (1, %s, %s, %s, 'ann')",
        [number, None if number else 1, policy.kind],
    )
    rows = columns(policy)
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into retention_rules values (1, %s, %s, %s, %s, string_to_array(%s, ','), %s, %s, %s)",
            [(number, *values) for values in zip(*rows.values(), strict=True)],
        )


@pytest.fixture(scope="module")
def connection(worker_database: str) -> Iterator[Connection]:
    with psycopg.connect(worker_database, autocommit=True) as opened:
        yield opened


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds())
def test_decisions_are_those_of_the_model(connection: Connection, world: World) -> None:
    with connection.transaction(force_rollback=True):
        fill(connection, world)
        found = connection.execute("select tag, digest, deletes from retention_decisions(1, 1)").fetchall()
    decided = {(tag, Digest(bytes(packed))): deletes for tag, packed, deletes in found}
    assert len(decided) == len(found)
    assert decided == judge(world)
