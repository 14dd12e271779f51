"""Lifecycle policies of Amazon's registry (ECR), as retention policies: all of one, or a reason why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from distsql.errors import SettingInvalidError
from distsql.registry.retention_rules import ANY, DELETE, TAGGED, UNTAGGED, Policy, Rule
from distsql.registry.tenants import check_patterns

_MAX_WILDCARDS: Final = 4
_MAX_NUMBER: Final = 36_500
_CRITERIA: Final = {"imageCountMoreThan": "latest", "sinceImagePushed": "pushed", "sinceImagePulled": "used"}
_RULE_KEYS: Final = {"rulePriority", "description", "selection", "action"}
_SELECTION_KEYS: Final = {
    "tagStatus",
    "tagPrefixList",
    "tagPatternList",
    "storageClass",
    "countType",
    "countUnit",
    "countNumber",
}


def import_ecr(text: str) -> Policy:
    """The policy that the JSON means. Raises `SettingInvalidError` for what is malformed or can't be expressed."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SettingInvalidError(f"The lifecycle policy is no JSON: {error}") from error
    listed = _object(document, "The lifecycle policy", {"rules"}).get("rules")
    if not isinstance(listed, list) or not listed:
        raise SettingInvalidError('The lifecycle policy has no list "rules" with at least one rule')
    rules: dict[int, Rule] = {}
    for each in listed:
        fields = _object(each, "A rule", _RULE_KEYS)
        priority = _number(fields.get("rulePriority"), "A rule's rulePriority", most=2**31 - 1)
        if priority in rules:
            raise SettingInvalidError(f"Two rules have the rulePriority {priority}")
        rules[priority] = _rule(fields, f"Rule {priority}")
    _check_order(rules)
    return Policy(dict(sorted(rules.items())), "ecr")


def _rule(fields: Mapping[str, Any], where: str) -> Rule:
    action = _object(fields.get("action"), f"{where}: action", {"type", "targetStorageClass"})
    if action.get("type") != "expire":
        raise SettingInvalidError(
            f"{where}: the action {action.get('type')!r} can't be expressed: there is one storage class, so expire only"
        )
    selection = _object(fields.get("selection"), f"{where}: selection", _SELECTION_KEYS)
    if selection.get("storageClass", "standard") != "standard":
        raise SettingInvalidError(f"{where}: the storageClass can't be expressed: there is one, which is standard")
    count_type = selection.get("countType")
    criterion = _CRITERIA.get(count_type) if isinstance(count_type, str) else None
    if criterion is None:
        raise SettingInvalidError(
            f"{where}: the countType {count_type!r} can't be expressed: one of {', '.join(_CRITERIA)}"
        )
    unit = selection.get("countUnit")
    if unit != (None if criterion == "latest" else "days"):
        raise SettingInvalidError(f"{where}: countUnit is days when countType is of time, and is left out otherwise")
    number = _number(selection.get("countNumber"), f"{where}: countNumber", most=_MAX_NUMBER)
    selects, patterns = _selected(selection, where)
    if criterion == "latest":
        return Rule(DELETE, selects, patterns, criterion, latest=number)
    return Rule(DELETE, selects, patterns, criterion, age=timedelta(days=number))


def _selected(selection: Mapping[str, Any], where: str) -> tuple[str, tuple[str, ...]]:
    status = selection.get("tagStatus")
    if status not in {TAGGED, UNTAGGED, ANY}:
        raise SettingInvalidError(f"{where}: tagStatus is tagged, untagged or any, not {status!r}")
    lists = {name: selection[name] for name in ("tagPrefixList", "tagPatternList") if name in selection}
    if len(lists) != (status == TAGGED):
        raise SettingInvalidError(
            f"{where}: tagPrefixList or tagPatternList, one of them, if tagStatus is tagged, else none"
        )
    if not lists:
        return status, ()
    ((name, texts),) = lists.items()
    if not isinstance(texts, list) or not texts or not all(isinstance(each, str) and each for each in texts):
        raise SettingInvalidError(f"{where}: {name} is a list of texts, at least one")
    if any("?" in each for each in texts) or (name == "tagPrefixList" and any("*" in each for each in texts)):
        raise SettingInvalidError(f"{where}: {name} has a character that no tag has")
    if any(each.count("*") > _MAX_WILDCARDS for each in texts):
        raise SettingInvalidError(f"{where}: at most {_MAX_WILDCARDS} wildcards in a pattern")
    return status, tuple(check_patterns([f"{each}*" if name == "tagPrefixList" else each for each in texts]))


def _check_order(rules: Mapping[int, Rule]) -> None:
    for status in (UNTAGGED, ANY):
        if sum(rule.selects == status for rule in rules.values()) > 1:
            raise SettingInvalidError(f"Only one rule may have the tagStatus {status}")
    if any(rule.selects == ANY and priority < max(rules) for priority, rule in rules.items()):
        raise SettingInvalidError("The rule with the tagStatus any has to have the highest rulePriority")


def _object(value: object, what: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SettingInvalidError(f"{what} is no JSON object")
    if unknown := sorted(value.keys() - known):
        raise SettingInvalidError(f"{what} has {unknown[0]!r}, which is not known: {', '.join(sorted(known))} are")
    return value


def _number(value: object, what: str, *, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
        raise SettingInvalidError(f"{what} is {value!r}: a whole number from 1 to {most}")
    return value
