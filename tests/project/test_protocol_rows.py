"""Each row of the protocol's checklist (PROTOCOL.md) has a test that says so in the first words of its docstring."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

# How many rows each of the checklist's tables has; it is kept beside the repository, and its rows are only ever added.
ROWS = [
    *(f"0.{number}" for number in range(1, 8)),  # names, references, digests, exact bytes
    *(f"1.{number}" for number in range(1, 4)),  # pull
    *(f"2.{number}" for number in range(1, 14)),  # push a blob
    *(f"3.{number}" for number in range(1, 8)),  # push a manifest
    *(f"4.{number}" for number in range(1, 5)),  # tags, referrers, catalogue
    *(f"5.{number}" for number in range(1, 3)),  # delete
    *(f"6.{number}" for number in range(1, 5)),  # errors, warnings, extensions
]
_NAMED = re.compile(r"((?:\d\.\d+(?:, | to | and )?)+)")


def read_rows(docstring: str) -> set[str]:
    """The rows that a docstring begins with: ``2.7, 2.9 what holds``. ``2.1 to 2.13`` names its two ends alone."""
    found = _NAMED.match(docstring.removeprefix("Rows ").removeprefix("Row "))
    return set(re.findall(r"\d\.\d+", found[1])) if found else set()


def find_tests() -> list[tuple[str, str]]:
    """Names and docstrings of the tests of this project."""
    return [
        (f"{path.relative_to(TESTS)}::{node.name}", ast.get_docstring(node) or "")
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]


def test_every_row_has_a_test() -> None:
    named = {row for _, docstring in find_tests() for row in read_rows(docstring)}
    assert [row for row in ROWS if row not in named] == [], "each row of PROTOCOL.md deserves a test that names it"


def test_no_test_names_a_row_that_there_is_not() -> None:
    unknown = {name: read_rows(docstring) - set(ROWS) for name, docstring in find_tests()}
    assert {name: rows for name, rows in unknown.items() if rows} == {}


@pytest.mark.parametrize(
    ("docstring", "rows"),
    [
        ("2.7 it holds.", {"2.7"}),
        ("2.7, 2.9 they hold: see 2.1.", {"2.7", "2.9"}),
        ("Row 3.3: it holds.", {"3.3"}),
        ("Rows 0.3, 0.7 and 3.1: they hold.", {"0.3", "0.7", "3.1"}),
        ("It holds, by row 2.1.", set()),
        ("", set()),
    ],
)
def test_rows_are_read_as_they_are_written(docstring: str, rows: set[str]) -> None:
    assert read_rows(docstring) == rows
