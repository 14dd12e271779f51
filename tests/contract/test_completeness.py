"""Every member of every interface has a test, and so has every error that its docstring names.

Tests say with `@covers` what they are about. This reads their source, so it doesn't matter which of them run: a name
that is no member (any more) fails, and so does a test that never touches what it says it covers.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, is_typeddict

from distsql import contract, contract_undo

# What only damage or an outage makes: it can't be had through the interfaces, so each implementation tests it (for the
# catalogue see tests/registry).
OUTAGES: Final = {"UnavailableError", "StoreFullError", "BytesMissingError", "ContentCorruptError"}


def interfaces() -> Iterator[type]:
    for page in (contract, contract_undo):
        for value in vars(page).values():
            if inspect.isclass(value) and value.__module__ == page.__name__ and not is_typeddict(value):
                yield value


def members() -> dict[str, set[str]]:
    """Every member, and the errors of its docstring."""
    return {
        f"{interface.__name__}.{name}": set(re.findall(r"`(\w+Error)`", inspect.getdoc(member) or "")) - OUTAGES
        for interface in interfaces()
        for name, member in vars(interface).items()
        if not name.startswith("_")
    }


def covering_tests() -> Iterator[tuple[str, str, list[ast.AST]]]:
    """Every covered member with a test that covers it: the test's name, and its source with its file's functions."""
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        functions = {
            node.name: node
            for node in ast.parse(file.read_text()).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for name, test in functions.items():
            nodes = list(ast.walk(test))
            called = {node.id for node in nodes if isinstance(node, ast.Name)} & functions.keys()
            for each in called:
                nodes += ast.walk(functions[each])
            for covered in _covered(test):
                yield covered, f"{file.name}::{name}", nodes


def _covered(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in test.decorator_list:
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "covers":
            for argument in decorator.args:
                assert isinstance(argument, ast.Constant)
                yield str(argument.value)


def _uses(test: list[ast.AST], attribute: str) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == attribute for node in test)


def _mentions(test: list[ast.AST], error: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == error for node in test)


def test_the_interfaces_are_found() -> None:
    assert {"Namespace", "ManifestService", "LayerUpload", "Scope"} <= {each.__name__ for each in interfaces()}
    assert len(members()) > 60
    assert members()["LayerService.mount"] >= {"BlobUnknownError"}


def test_every_member_is_covered() -> None:
    assert sorted(set(members()) - {covered for covered, _, _ in covering_tests()}) == []


def test_what_is_covered_exists() -> None:
    assert sorted((covered, test) for covered, test, _ in covering_tests() if covered not in members()) == []


def test_a_test_uses_what_it_covers() -> None:
    idle = [(covered, name) for covered, name, test in covering_tests() if not _uses(test, covered.rpartition(".")[2])]
    assert idle == []


def test_every_error_of_a_docstring_is_expected_by_a_test() -> None:
    tests: dict[str, list[list[ast.AST]]] = defaultdict(list)
    for covered, _, test in covering_tests():
        tests[covered].append(test)
    missing = [
        (member, error)
        for member, errors in members().items()
        for error in sorted(errors)
        if not any(_mentions(test, error) for test in tests[member])
    ]
    assert missing == []
