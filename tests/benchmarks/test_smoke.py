"""The benchmarks run to their end, with little content and short rounds, so that they can't rot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import PROGRAMS, SMOKE
from benchmarks.content import Content
from benchmarks.operations import list_operations
from benchmarks.servers import BARE, BareRegistry

ROOT = Path(__file__).parents[2]
PATIENCE = 280.0

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("benchmarks")]


@pytest.fixture
def programs() -> None:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        message = f"missing: {', '.join(missing)}; `./run.sh clients` gets them"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


def test_every_operation_is_measured_and_no_request_fails(programs: None, tmp_path: Path) -> None:
    report, page = tmp_path / "report.json", tmp_path / "performance.md"
    short = (
        "--smoke",
        "--rounds",
        "1",
        "--seconds",
        "0.1",
        "--uploads",
        "4",
        "--peer-gogc",
        "0",
        "--json",
        str(report),
        "--markdown",
        str(page),
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *short],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    other = BareRegistry("another", tmp_path / "another")
    operations = list_operations(Content(SMOKE), 1, tmp_path, other)
    names = [operation.name for operation in operations]
    for text in (done.stdout, page.read_text()):
        assert [name for name in names if name not in text] == []
    measured = json.loads(report.read_text())
    assert [operation["name"] for operation in measured["operations"]] == names
    servers = {"distsql", "distsql, tokens", "docker-registry"}
    for operation, figures in zip(operations, measured["operations"], strict=True):
        assert min(figures["rate"].values()) > 0, figures
        assert figures["samples"].keys() == servers | ({BARE} if operation.with_bare else set())
        assert all(len(samples) == 1 for samples in figures["samples"].values())
    assert [growth["server"] for growth in measured["growth"]] == ["distsql", "docker-registry"]
