"""What may be granted: actions on the repositories of a pattern, within one tenant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from distsql.errors import GrantInvalidError, NameInvalidError
from distsql.oci.names import RepositoryName
from distsql.values import Action

_ONE: Final = "*"
_REST: Final = "**"


@dataclass(frozen=True, slots=True)
class Grant:
    """Actions on a tenant's repositories whose paths match ``pattern``.

    A component of the pattern stands for itself, or is ``*``: any one component. ``**`` at the end is one or more of
    them. There is no other likeness: ``web`` is not ``web2`` and not ``web/api``.
    """

    tenant: str
    pattern: str
    actions: frozenset[Action]

    @classmethod
    def parse(cls, text: str) -> Grant:
        """Reads ``PATTERN:ACTION,ACTION``, such as ``acme/web/*:pull,push``; else `GrantInvalidError`."""
        pattern, _, names = text.rpartition(":")
        try:
            actions = frozenset(Action(name) for name in names.split(","))
            # A name like those that match: the pattern's own components are of the same grammar.
            like = "/".join("x" if part in {_ONE, _REST} else part for part in pattern.split("/"))
            RepositoryName.parse(like)
        except (ValueError, NameInvalidError):
            raise GrantInvalidError(
                f"{text[:300]!r} is no grant: write PATTERN:ACTIONS, such as 'acme/web/*:pull,push', with actions of "
                f"{', '.join(Action)}"
            ) from None
        tenant, slash, path = pattern.partition("/")
        if not slash or tenant in {_ONE, _REST} or _REST in path.split("/")[:-1]:
            raise GrantInvalidError(
                f"{text[:300]!r} is no grant: a pattern begins with its tenant, and ** stands at its end"
            )
        return cls(tenant, path, actions)

    def matches(self, name: RepositoryName) -> bool:
        """Whether the grant is about the repository of this name."""
        return name.tenant == self.tenant and _matches(self.pattern.split("/"), name.path.split("/"))

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.tenant}/{self.pattern}:{','.join(action for action in Action if action in self.actions)}"


def _matches(pattern: list[str], path: list[str]) -> bool:
    if pattern[-1] == _REST:
        pattern = pattern[:-1]
        if len(path) <= len(pattern):
            return False
        path = path[: len(pattern)]
    return len(pattern) == len(path) and all(
        wanted in {_ONE, found} for wanted, found in zip(pattern, path, strict=True)
    )


def granted_actions(grants: Iterable[Grant], name: RepositoryName) -> frozenset[Action]:
    """Everything that the grants together allow in the repository."""
    return frozenset(action for grant in grants if grant.matches(name) for action in grant.actions)


def gather(tenant: str, pairs: Iterable[tuple[str, str]]) -> tuple[Grant, ...]:
    """Grants of pairs of pattern and action, one for each pattern."""
    by_pattern: dict[str, set[Action]] = {}
    for pattern, action in pairs:
        by_pattern.setdefault(pattern, set()).add(Action(action))
    return tuple(Grant(tenant, pattern, frozenset(actions)) for pattern, actions in by_pattern.items())
