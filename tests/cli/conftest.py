"""What most commands are given."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def catalogue(database_url: str, tmp_path: Path) -> list[str]:
    """Options that pick an empty catalogue, and a folder for bytes."""
    return ["--database-url", database_url, "--storage", (tmp_path / "bytes").as_uri()]
