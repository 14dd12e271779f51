"""Rules of the code that no linter knows: sizes, names, and what may never be written."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE_CAP = 400
FUNCTION_CAP = 60
NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "helpers", "helper", "base", "core", "misc"}

# What turns data into code (CVE-2026-32590 among many).
MODULES_THAT_RUN_DATA = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "jsonpickle", "marshal", "shelve"}
BUILTINS_THAT_RUN_DATA = {"eval", "exec", "compile", "__import__"}
YAML_THAT_RUNS_DATA = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}

SUSPICIOUS = re.compile("|".join(sorted({"yaml"} | MODULES_THAT_RUN_DATA | BUILTINS_THAT_RUN_DATA)))


def find_modules(*folders: str) -> list[str]:
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in paths)


SHIPPED = find_modules("distsql")
EVERY = find_modules("distsql", "migrations", "tests", "benchmarks")


def read_tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"), module)


def find_functions(body: Iterable[ast.AST]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Of statements only: no expression holds one."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        if isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            yield from find_functions(ast.iter_child_nodes(node))


def find_danger(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                imported = {alias.name.partition(".")[0] for alias in names}
                yield from (f"import {module}" for module in imported & MODULES_THAT_RUN_DATA)
            case ast.ImportFrom(module=str(module), names=names):
                if module.partition(".")[0] in MODULES_THAT_RUN_DATA:
                    yield f"from {module} import"
                if module == "yaml" and YAML_THAT_RUNS_DATA & {alias.name for alias in names}:
                    yield "from yaml import load"
            case ast.Call(func=ast.Name(id=name)) if name in BUILTINS_THAT_RUN_DATA:
                yield f"{name}(), line {node.lineno}"
            case ast.Attribute(value=ast.Name(id="yaml"), attr=name) if name in YAML_THAT_RUNS_DATA:
                yield f"yaml.{name}, line {node.lineno}"


def test_there_is_code_to_look_at() -> None:
    assert "distsql/__init__.py" in SHIPPED


def test_every_file_can_be_read_in_one_go() -> None:
    lines = {module: len((ROOT / module).read_text(encoding="utf-8").splitlines()) for module in SHIPPED}
    assert {module: count for module, count in lines.items() if count > FILE_CAP} == {}, "which nouns do they hold?"


def test_the_grid_names_every_file_once_or_more() -> None:
    """docs/architecture.md, column by column; what it names is there."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "docs/architecture.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("|") and line.count("|") == 5
    ]
    for column, layer in enumerate(("api", "registry", "sql"), start=1):
        named = {name for row in rows for name in re.findall(r"`([a-z0-9_]+\.py)`", row[column])}
        there = {path.name for path in (ROOT / "distsql" / layer).glob("*.py")} - {"__init__.py"}
        assert named == there, f"which noun of the grid is it of? distsql/{layer}: {sorted(named ^ there)}"


def test_every_function_fits_on_a_screen() -> None:
    sizes = {
        f"{module}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module in SHIPPED
        for node in find_functions(read_tree(module).body)
    }
    assert {name: size for name, size in sizes.items() if size > FUNCTION_CAP} == {}


def test_every_module_has_a_name_that_says_something() -> None:
    parts = {module: set(Path(module).with_suffix("").parts) for module in EVERY}
    assert [module for module, names in parts.items() if names & NAMES_THAT_SAY_NOTHING] == []


def test_data_is_never_run_as_code() -> None:
    named = [module for module in SHIPPED if SUSPICIOUS.search((ROOT / module).read_text(encoding="utf-8"))]
    dangers = {module: list(find_danger(read_tree(module))) for module in named}
    assert {module: found for module, found in dangers.items() if found} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def load():\n    import marshal as harmless",
        "from pickle import loads",
        "eval(text)",
        "value = [exec(text)]",
        "yaml.load(text)",
        "from yaml import safe_load, load",
        "import os, shelve",
    ],
)
def test_danger_is_recognised(source: str) -> None:
    assert SUSPICIOUS.search(source)
    assert list(find_danger(ast.parse(source))) != []


@pytest.mark.parametrize("source", ["import json", "yaml.safe_load(text)", "re.compile(text)", "statement.compile()"])
def test_harmless_code_is_left_alone(source: str) -> None:
    assert list(find_danger(ast.parse(source))) == []
