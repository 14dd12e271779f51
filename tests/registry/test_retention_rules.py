"""Rules as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distsql.errors import SettingInvalidError
from distsql.registry.retention_rules import Rule, own_policy


@pytest.mark.parametrize(
    ("action", "text", "meaning"),
    [
        ("keep", "signed", Rule("keep", "tagged", ("*",), "signed")),
        ("keep", "v*, release-?: latest 10", Rule("keep", "tagged", ("release-?", "v*"), "latest", latest=10)),
        ("keep", "any: pulled within 36h", Rule("keep", "any", (), "used", age=timedelta(hours=36))),
        ("keep", "used within 30d", Rule("keep", "tagged", ("*",), "used", age=timedelta(days=30))),
        ("keep", "prod: all", Rule("keep", "tagged", ("prod",), "all")),
        ("delete", "untagged: pushed before 7d", Rule("delete", "untagged", (), "pushed", age=timedelta(days=7))),
        ("delete", "beyond 100", Rule("delete", "tagged", ("*",), "latest", latest=100)),
        ("delete", "pr-*: unsigned", Rule("delete", "tagged", ("pr-*",), "signed")),
    ],
)
def test_rules_are_read(action: str, text: str, meaning: Rule) -> None:
    assert Rule.parse(action, text) == meaning


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ("keep", ""),
        ("keep", "v*"),
        ("keep", "v*:"),
        ("keep", ": all"),
        ("keep", "v/1: all"),
        ("keep", "latest"),
        ("keep", "latest 0"),
        ("keep", "latest -1"),
        ("keep", "latest 10d"),
        ("keep", "latest 99999999999"),
        ("keep", "signed 3"),
        ("keep", "pushed within 3"),
        ("keep", "pushed within 0d"),
        ("keep", "pushed before 3d"),
        ("delete", "latest 3"),
        ("delete", "signed"),
        ("delete", "pushed within 3d"),
    ],
)
def test_others_are_refused_with_what_there_is(action: str, text: str) -> None:
    with pytest.raises(SettingInvalidError):
        Rule.parse(action, text)


RULES = st.tuples(
    st.sampled_from(["keep", "delete"]),
    st.sampled_from([("untagged", ()), ("any", ()), ("tagged", ("*",)), ("tagged", ("a?", "v*"))]),
    st.sampled_from(["all", "signed", "latest", "pushed", "used"]),
    st.integers(1, 100_000),
).map(
    lambda made: Rule(
        made[0],
        made[1][0],
        made[1][1],
        made[2],
        latest=made[3] if made[2] == "latest" else None,
        age=timedelta(seconds=made[3]) if made[2] in {"pushed", "used"} else None,
    )
)


@given(RULES)
def test_a_rule_is_read_as_it_is_written(rule: Rule) -> None:
    assert Rule.parse(rule.action, str(rule)) == rule


def test_the_same_rule_twice_is_a_mistake() -> None:
    with pytest.raises(SettingInvalidError, match="twice"):
        own_policy(["signed", "*: signed"], [])
