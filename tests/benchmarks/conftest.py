"""Benchmarks' folders are in memory here: what is looked at is that they run to their end, not how quick a disk is."""

from __future__ import annotations

import tempfile

import pytest

from tests.places import place_of_places


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary folders of this process, and of those that it starts."""
    monkeypatch.setenv("TMPDIR", str(place_of_places()))
    monkeypatch.setattr(tempfile, "tempdir", str(place_of_places()))
