"""Races and soak of garbage collection, a few rounds of each, so that the command can't rot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.garbage import parse_arguments, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("benchmarks")]


async def test_races_and_soak_end_with_nothing_lost_and_nothing_left(database_url: str, tmp_path: Path) -> None:
    """HAZARDS: Quay 4c40e06, GitLab: push, mount, HEAD and collection of one digest; and all kinds of operations."""
    arguments = parse_arguments(
        [
            "--rounds",
            "40",
            "--operations",
            "200",
            "--manifests",
            "200",
            "--pushes",
            "4",
            "--blobs",
            "500",
            "--tags",
            "100",
        ]
    )
    console = Console(record=True)
    assert await run(database_url, tmp_path, arguments, console) == 0
    told = console.export_text()
    assert "reviewed" in told
    assert "beside collection" in told
    assert "docker-registry frees" in told or shutil.which("docker-registry") is None
