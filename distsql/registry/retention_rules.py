"""Rules of retention as people write them: ``v*,release-*: latest 10``. Pure values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from distsql.errors import SettingInvalidError
from distsql.registry.tenants import check_patterns
from distsql.values import duration

KEEP: Final = "keep"
DELETE: Final = "delete"
TAGGED: Final = "tagged"
UNTAGGED: Final = "untagged"
ANY: Final = "any"
_MOST: Final = 2**31 - 1

_RULE: Final = re.compile(
    r"(?:\s*(?P<selection>[^:]*?)\s*:)?\s*(?P<criterion>[a-z]+(?: [a-z]+)?)(?: (?P<number>\S+))?\s*\Z"
)
# The words for each criterion, in rules that keep and in rules that delete.
_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    KEEP: {
        "all": "all",
        "latest": "latest",
        "pushed within": "pushed",
        "pulled within": "used",
        "used within": "used",
        "signed": "signed",
    },
    DELETE: {
        "all": "all",
        "beyond": "latest",
        "pushed before": "pushed",
        "pulled before": "used",
        "used before": "used",
        "unsigned": "signed",
    },
}
_FORMS: Final = {
    KEEP: "all, latest N, pushed within 30d, pulled within 30d, signed",
    DELETE: "all, beyond N, pushed before 30d, pulled before 30d, unsigned",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What a policy says about some of a repository's tags and images.

    ``keep`` keeps what fulfils the criterion, ``delete`` deletes what doesn't. What was never pulled counts as pulled
    when it was pushed.
    """

    action: str
    selects: str
    patterns: tuple[str, ...]
    criterion: str
    latest: int | None = None
    age: timedelta | None = None

    @classmethod
    def parse(cls, action: str, text: str) -> Rule:
        """Reads ``[SELECTION:] CRITERION``; the selection is ``untagged``, ``any`` or patterns of tags, else all tags.

        Raises `SettingInvalidError`.
        """
        match = _RULE.match(text)
        criterion = _WORDS[action].get(match["criterion"]) if match else None
        if match is None or criterion is None:
            raise _unreadable(action, text)
        selects, patterns = _selection(match["selection"])
        needs_number, number = criterion in {"latest", "pushed", "used"}, match["number"]
        if needs_number != (number is not None):
            raise _unreadable(action, text)
        latest = _count(number, action, text) if criterion == "latest" else None
        age = _age(number, action, text) if criterion in {"pushed", "used"} else None
        return cls(action, selects, patterns, criterion, latest, age)

    def __str__(self) -> str:
        """As `parse` reads it."""
        words = next(each for each, criterion in _WORDS[self.action].items() if criterion == self.criterion)
        number = f" {self.latest}" if self.latest is not None else f" {_written(self.age)}" if self.age else ""
        return f"{', '.join(self.patterns) if self.selects == TAGGED else self.selects}: {words}{number}"


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of a tenant or a repository, by priority, the lowest first.

    Of kind ``own``: tags, and images without any, are judged one by one; whatever a rule keeps is kept, and else what a
    rule deletes is deleted. Of kind ``ecr``: an image is judged with all its tags, by the first rule that selects it.
    """

    rules: Mapping[int, Rule]
    kind: str = "own"


def own_policy(keep: Sequence[str], delete: Sequence[str]) -> Policy:
    """A policy of these rules. Raises `SettingInvalidError`."""
    rules = [*(Rule.parse(KEEP, text) for text in keep), *(Rule.parse(DELETE, text) for text in delete)]
    if len(rules) > len(set(rules)):
        raise SettingInvalidError("The same rule is given twice")
    return Policy(dict(enumerate(rules, 1)))


def _selection(text: str | None) -> tuple[str, tuple[str, ...]]:
    if text in {UNTAGGED, ANY}:
        return str(text), ()
    patterns = ["*"] if text is None else [each.strip() for each in text.split(",")]
    return TAGGED, tuple(check_patterns(patterns))


def _count(number: str, action: str, text: str) -> int:
    if not number.isascii() or not number.isdigit() or not 0 < int(number[:12]) <= _MOST:
        raise _unreadable(action, text)
    return int(number)


def _age(number: str, action: str, text: str) -> timedelta:
    try:
        age = duration(number)
    except ValueError as error:
        raise SettingInvalidError(f"The rule {text[:200]!r}: {error}") from error
    if not age:
        raise _unreadable(action, text)
    return age


def _written(age: timedelta) -> str:
    for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, rest = divmod(age.total_seconds(), seconds)
        if not rest:
            return f"{number:.0f}{unit}"
    return f"{age.total_seconds() * 1000:.0f}ms"


def _unreadable(action: str, text: str) -> SettingInvalidError:
    return SettingInvalidError(
        f"{text[:200]!r} is no rule that {action}s: write 'v*,release-*: ...', 'untagged: ...', 'any: ...', or nothing "
        f"for all tags, and then one of {_FORMS[action]}"
    )
