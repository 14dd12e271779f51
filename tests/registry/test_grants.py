"""Which names a grant is about, and which it isn't: no authority from names that are only alike (Harbor c080060)."""

from __future__ import annotations

import pytest

from distsql.errors import GrantInvalidError
from distsql.oci.names import RepositoryName
from distsql.registry.grants import Grant, gather, granted_actions
from distsql.values import Action


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        (
            "acme/web",
            ["acme/web"],
            ["acme/web2", "acme/we", "acme/web/api", "acme/api/web", "acme2/web", "library/web"],
        ),
        ("acme/web/*", ["acme/web/api", "acme/web/x"], ["acme/web", "acme/web/api/v1", "acme/website/api"]),
        ("acme/**", ["acme/web", "acme/web/api/v1"], ["acme2/web", "acme-x/web", "library/acme"]),
        ("acme/web/**", ["acme/web/a", "acme/web/a/b"], ["acme/web", "acme/website", "acme/x/web/a"]),
        ("acme/*/api", ["acme/web/api"], ["acme/api", "acme/web/x/api", "acme/web/apis"]),
    ],
)
def test_patterns(pattern: str, matching: list[str], others: list[str]) -> None:
    """A component is itself or `*`, any one; `**` at the end is one or more."""
    grant = Grant.parse(f"{pattern}:pull")
    assert [name for name in matching if not grant.matches(RepositoryName.parse(name))] == []
    assert [name for name in others if grant.matches(RepositoryName.parse(name))] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "acme/web",
        "acme/web:",
        "acme/web:read",
        "acme/web:pull,",
        "acme/web:PULL",
        "acme/web:*",
        "web:pull",
        "*/web:pull",
        "**:pull",
        "acme/**/x:pull",
        "acme/w*:pull",
        "acme/***:pull",
        "ACME/web:pull",
        "acme//web:pull",
        "acme/web\n:pull",
        "acme/../web:pull",
        "acme/%:pull",
        "acme/_:pull",
    ],
)
def test_what_is_no_grant(text: str) -> None:
    """A sentence that says how to write one."""
    with pytest.raises(GrantInvalidError, match=r"PATTERN:ACTIONS|its tenant"):
        Grant.parse(text)


def test_grants_add_up() -> None:
    """Of several that are about a name all actions count; they are written as they are read."""
    granted = gather("acme", [("**", "pull"), ("web", "push"), ("web", "delete")])
    assert granted_actions(granted, RepositoryName("acme", "web")) == {Action.PULL, Action.PUSH, Action.DELETE}
    assert granted_actions(granted, RepositoryName("acme", "api")) == {Action.PULL}
    assert granted_actions(granted, RepositoryName("other", "web")) == frozenset()
    assert [str(grant) for grant in granted] == ["acme/**:pull", "acme/web:push,delete"]
    assert all(Grant.parse(str(grant)) == grant for grant in granted)
