"""Lifecycle policies of ECR: what its documentation says becomes of the images of its examples, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import pytest

from distsql.app import Registry
from distsql.errors import SettingInvalidError
from distsql.oci.digest import Digest
from distsql.registry.ecr_policies import import_ecr
from distsql.registry.namespace import StoredNamespace
from distsql.registry.repositories import StoredRepository
from distsql.registry.retention import Retention
from distsql.values import Caller
from tests.registry.pushing import CONFIG, image, index, push_blob, push_image

Sql = psycopg.Connection[tuple[object, ...]]


def rule(priority: int, status: str, count: str, number: int, **more: object) -> dict[str, Any]:
    unit = {} if count == "imageCountMoreThan" else {"countUnit": "days"}
    selection = {"tagStatus": status, "countType": count, "countNumber": number, **unit, **more}
    return {"rulePriority": priority, "description": "x", "selection": selection, "action": {"type": "expire"}}


def prefixed(priority: int, number: int, *prefixes: str, count: str = "imageCountMoreThan") -> dict[str, Any]:
    return rule(priority, "tagged", count, number, tagPrefixList=list(prefixes))


# Name of an image: its tags, and how many days ago it was pushed.
Images = Mapping[str, tuple[Sequence[str], int]]
PROD_AND_BETA: Images = {"A": (["beta-1", "prod-1"], 10), "B": (["beta-2", "prod-2"], 9), "C": (["beta-3"], 8)}
ALPHA_AND_BETA: Images = {
    "A": (["alpha-1"], 12),
    "B": (["beta-1"], 11),
    "C": (["alpha-2", "beta-2"], 10),
    "D": (["alpha-3"], 4),
    "E": (["beta-3"], 3),
    "F": (["alpha-4", "beta-4"], 2),
}
MIXED: Images = {"A": (["alpha-1"], 4), "B": (["beta-1"], 3), "C": ([], 2), "D": (["alpha-2"], 1)}

EXAMPLES = {
    "what a rule of higher priority keeps no other expires": (
        PROD_AND_BETA,
        [prefixed(1, 1, "prod"), prefixed(2, 1, "beta")],
        "A",
    ),
    "the same with the priorities exchanged": (PROD_AND_BETA, [prefixed(1, 1, "beta"), prefixed(2, 1, "prod")], "AB"),
    "of several prefixes an image has to have each": (
        ALPHA_AND_BETA,
        [prefixed(1, 5, "alpha", "beta", count="sinceImagePushed")],
        "C",
    ),
    "patterns": (
        ALPHA_AND_BETA,
        [rule(1, "tagged", "sinceImagePushed", 5, tagPatternList=["*a-2", "alpha*"])],
        "C",
    ),
    "one pattern": (ALPHA_AND_BETA, [rule(1, "tagged", "sinceImagePushed", 5, tagPatternList=["b*-*"])], "BC"),
    "any image": (MIXED, [rule(1, "any", "imageCountMoreThan", 1)], "ABC"),
    "all are counted, also those that another rule expires": (
        MIXED,
        [prefixed(1, 1, "alpha"), rule(2, "any", "imageCountMoreThan", 1)],
        "ABC",
    ),
    "an image that another rule keeps counts as well": (
        MIXED,
        [prefixed(1, 2, "alpha"), rule(5, "any", "imageCountMoreThan", 2)],
        "B",
    ),
    "all but one without a tag": (
        {"A": ([], 4), "B": ([], 3), "C": ([], 2), "D": (["v1"], 9)},
        [rule(1, "untagged", "imageCountMoreThan", 1)],
        "AB",
    ),
    "without a tag and old": (MIXED, [rule(1, "untagged", "sinceImagePushed", 1)], "C"),
    "never pulled counts from the push": (MIXED, [rule(1, "any", "sinceImagePulled", 3)], "AB"),
    "a prefix is no pattern": (
        {"A": (["a_1"], 4), "B": (["ab1"], 3)},
        [prefixed(1, 1, "a_", count="sinceImagePushed")],
        "A",
    ),
}


async def test_examples(registry: Registry, namespace: StoredNamespace, sql: Sql) -> None:
    """Each in a repository of its own: what goes, and what is there afterwards."""
    retention = Retention(registry.backend, Caller(actor="ann"))
    for number, (told, (images, rules, expired)) in enumerate(EXAMPLES.items()):
        web = namespace.repository(f"acme/web-{number}")
        digests = await push_aged(web, images, sql)
        await retention.set(web.name, import_ecr(json.dumps({"rules": rules})))
        (preview,) = [each async for each in retention.preview(web.name)]
        assert {each.row.digest for each in preview.deleted} == {digests[name] for name in expired}, told
        async for _ in retention.run(web.name):
            pass
        left = {name for name, digest in digests.items() if await web.manifests.exists(digest)}
        assert left == images.keys() - set(expired), told
        kept = {tag for name, (tags, _) in images.items() if name in left for tag in tags}
        assert {tag async for tag in web.tags.list()} == kept, told


async def push_aged(web: StoredRepository, images: Images, sql: Sql) -> dict[str, Digest]:
    for content in (CONFIG, b"layer"):
        await push_blob(web, content)
    digests = {}
    for name, (tags, days) in images.items():
        digests[name] = await web.manifests.put(image(b"layer", image=f"{web.name} {name}"), tags)
        sql.execute(
            "update manifests set pushed_at = now() - interval '1 hour' - %s * interval '1 day' where digest = %s",
            [days, digests[name].packed],
        )
    return digests


# Name of an image: its tags, how many days ago it was pushed, and pulled.
EACH: Mapping[str, tuple[Sequence[str], int, int | None]] = {
    "tagged": (["v1"], 20, None),
    "tagged and used": (["v2"], 19, 2),
    "tagged and new": (["v3"], 1, None),
    "untagged": ([], 20, None),
    "untagged and used": ([], 19, 2),
    "untagged and new": ([], 1, None),
}
EXPIRED = {
    ("tagged", "imageCountMoreThan", 2): {"tagged"},
    ("tagged", "sinceImagePushed", 10): {"tagged", "tagged and used"},
    ("tagged", "sinceImagePulled", 10): {"tagged"},
    ("untagged", "imageCountMoreThan", 2): {"untagged"},
    ("untagged", "sinceImagePushed", 10): {"untagged", "untagged and used"},
    ("untagged", "sinceImagePulled", 10): {"untagged"},
    ("any", "imageCountMoreThan", 2): EACH.keys() - {"tagged and new", "untagged and new"},
    ("any", "sinceImagePushed", 10): EACH.keys() - {"tagged and new", "untagged and new"},
    ("any", "sinceImagePulled", 10): {"tagged", "untagged"},
}


async def test_every_kind_of_rule(registry: Registry, namespace: StoredNamespace, sql: Sql) -> None:
    """Each status of tags with each thing that is counted, tags by prefixes and by patterns."""
    web = namespace.repository("acme/web")
    names: dict[str, str] = {}
    for name, (tags, pushed, pulled) in EACH.items():
        digest = (await push_image(web, b"layer", tags=tags, image=name)).digest
        names[str(digest)] = name
        sql.execute(
            "update manifests set pushed_at = now() - %s * interval '1 day' where digest = %s", [pushed, digest.packed]
        )
        if pulled:
            sql.execute(
                "insert into manifest_pulls (tenant_id, repository_id, digest, last_pulled_at) "
                "select tenant_id, repository_id, digest, now() - %s * interval '1 day' "
                "from manifests where digest = %s",
                [pulled, digest.packed],
            )
    retention = Retention(registry.backend, Caller(actor="ann"))
    for (status, count, number), expired in EXPIRED.items():
        for more in ({"tagPrefixList": ["v"]}, {"tagPatternList": ["v*"]}) if status == "tagged" else ({},):
            policy = import_ecr(json.dumps({"rules": [rule(3, status, count, number, **more)]}))
            await retention.set("acme/web", policy)
            (preview,) = [each async for each in retention.preview("acme/web")]
            assert {names[str(each.row.digest)] for each in preview.deleted} == expired, (status, count, more)


async def test_an_image_in_an_index_stays_with_its_tags(registry: Registry, namespace: StoredNamespace) -> None:
    web = namespace.repository("acme/web")
    child = await push_image(web, b"layer", tags=["old"], image="child")
    await web.manifests.put(index(child), ["multi"])
    retention = Retention(registry.backend, Caller(actor="ann"))
    await retention.set("acme/web", import_ecr(json.dumps({"rules": [prefixed(1, 1, "old"), prefixed(2, 1, "multi")]})))
    assert [each.deleted async for each in retention.preview("acme/web")] == [[]]
    await push_image(web, b"layer", tags=["old-2"], image="newer")
    (preview,) = [each async for each in retention.preview("acme/web")]
    assert preview.deleted == []
    reasons = {each.row.tag: each.reason for each in preview.decisions}
    assert reasons["old"].startswith("its image is kept")


def test_a_whole_policy_is_read() -> None:
    policy = import_ecr(
        json.dumps({"rules": [rule(7, "any", "sinceImagePulled", 30), prefixed(2, 10, "v", "release-")]})
    )
    assert policy.kind == "ecr"
    assert {priority: f"{each.action} {each}" for priority, each in policy.rules.items()} == {
        2: "delete release-*, v*: beyond 10",
        7: "delete any: pulled before 30d",
    }


def broken(**changes: object) -> dict[str, Any]:
    made = rule(1, "untagged", "imageCountMoreThan", 1)
    selection = {**made["selection"], **changes}
    return {**made, "selection": {name: value for name, value in selection.items() if value is not None}}


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ({"rules": []}, "at least one rule"),
        ({"rules": [1]}, "A rule is no JSON object"),
        ({"rules": [rule(1, "any", "imageCountMoreThan", 1)], "version": 1}, "'version'"),
        ({"rules": [{**broken(), "when": "never"}]}, "'when'"),
        ({"rules": [broken(), broken()]}, "Two rules have the rulePriority 1"),
        ({"rules": [{**broken(), "rulePriority": 0}]}, "rulePriority"),
        ({"rules": [{**broken(), "rulePriority": True}]}, "rulePriority"),
        ({"rules": [{**broken(), "action": {"type": "transition", "targetStorageClass": "archive"}}]}, "'transition'"),
        ({"rules": [broken(storageClass="archive")]}, "storageClass"),
        ({"rules": [broken(countType="sinceImageTransitioned", countUnit="days")]}, "sinceImageTransitioned"),
        ({"rules": [broken(countType="sinceImagePushed")]}, "countUnit"),
        ({"rules": [broken(countType="sinceImagePushed", countUnit="hours")]}, "countUnit"),
        ({"rules": [broken(countUnit="days")]}, "countUnit"),
        ({"rules": [broken(countNumber=0)]}, "countNumber"),
        ({"rules": [broken(countNumber="1")]}, "countNumber"),
        ({"rules": [broken(tagStatus="some")]}, "tagStatus"),
        ({"rules": [broken(tagPrefixList=["v"])]}, "tagPrefixList or tagPatternList"),
        ({"rules": [broken(tagStatus="tagged")]}, "tagPrefixList or tagPatternList"),
        ({"rules": [broken(tagStatus="tagged", tagPrefixList=["v"], tagPatternList=["v*"])]}, "one of them"),
        ({"rules": [broken(tagStatus="tagged", tagPrefixList=[])]}, "at least one"),
        ({"rules": [broken(tagStatus="tagged", tagPatternList=["*a*b*c*d*"])]}, "4 wildcards"),
        ({"rules": [broken(tagStatus="tagged", tagPatternList=["v?"])]}, "no tag has"),
        ({"rules": [broken(tagStatus="tagged", tagPatternList=["v/1"])]}, "no pattern"),
        ({"rules": [rule(1, "any", "imageCountMoreThan", 1), prefixed(2, 1, "v")]}, "highest rulePriority"),
        ({"rules": [broken(), {**broken(), "rulePriority": 2}]}, "Only one rule"),
    ],
)
def test_what_cannot_be_expressed_is_refused_with_the_reason(policy: object, reason: str) -> None:
    with pytest.raises(SettingInvalidError, match=reason.replace("*", r"\*")):
        import_ecr(policy if isinstance(policy, str) else json.dumps(policy))
