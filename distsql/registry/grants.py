"""What may be granted: actions on the repositories of a pattern, within one tenant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from distsql.errors import GrantInvalidError, NameInvalidError
from distsql.oci.names import RepositoryName
from distsql.values import Action

_ONE: Final = "*"
_REST: Final = "**"
# Before and behind every character that a path has.
_FIRST: Final = "\x01"
_LAST: Final = "\x7f"


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


class Span(NamedTuple):
    """Paths from ``lower`` on and before ``upper``, in byte order; of these the ones that are like ``likeness``.

    The likeness is a regular expression, or empty: all of them.
    """

    lower: str
    upper: str
    likeness: str


def spans(patterns: Iterable[str]) -> list[Span]:
    """Where the paths of any of these patterns are in the order of all: what an index can look up.

    Most patterns are ranges. With a ``*`` an expression has to pick, of what begins as the pattern does.
    """
    found: list[Span] = []
    each_once = {_span(pattern.split("/")) for pattern in patterns}
    for span in sorted(each_once, key=lambda each: (each.lower, each.likeness)):
        if not any(whole.likeness == "" and whole.lower <= span.lower and span.upper <= whole.upper for whole in found):
            found.append(span)
    return found


def _span(pattern: list[str]) -> Span:
    stars = [at for at, part in enumerate(pattern) if part in {_ONE, _REST}]
    if not stars:
        path = "/".join(pattern)
        return Span(path, path + _FIRST, "")
    prefix = "".join(f"{part}/" for part in pattern[: stars[0]])
    # Behind everything that begins so: "0" comes next after "/".
    upper = prefix[:-1] + "0" if prefix else _LAST
    if pattern[stars[0]] == _REST:
        return Span(prefix, upper, "")
    parts = {_ONE: "[^/]+", _REST: ".+"}
    return Span(prefix, upper, f"^{'/'.join(parts.get(part) or part.replace('.', '[.]') for part in pattern)}$")


def granted_actions(grants: Iterable[Grant], name: RepositoryName) -> frozenset[Action]:
    """Everything that the grants together allow in the repository."""
    return frozenset(action for grant in grants if grant.matches(name) for action in grant.actions)


def gather(tenant: str, pairs: Iterable[tuple[str, str]]) -> tuple[Grant, ...]:
    """Grants of pairs of pattern and action, one for each pattern."""
    by_pattern: dict[str, set[Action]] = {}
    for pattern, action in pairs:
        by_pattern.setdefault(pattern, set()).add(Action(action))
    return tuple(Grant(tenant, pattern, frozenset(actions)) for pattern, actions in by_pattern.items())
