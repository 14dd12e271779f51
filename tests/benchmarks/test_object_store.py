"""Pushes and pulls beside the bare client library, once, with little content; a push's memory is small enough."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import make_folder
from benchmarks.object_store import MEMORY_BAR, MIB, measure, print_result
from tests.objectstore import ObjectStore

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("benchmarks")]


def test_pushes_pulls_and_their_memory_are_measured(
    object_store: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with make_folder() as folder:
        found = measure(object_store, folder, size=48 * MIB, rounds=1)
    assert all(len(taken) == 1 and taken[0] > 0 for taken in found["seconds"].values())
    assert all(ratio > 0 for ratios in found["ratios"].values() for ratio in ratios)
    assert max(found["memory"]) < MEMORY_BAR
    assert found["redirected"]["bytes from the registry"] == 0
    print_result(found)
    assert "push" in capsys.readouterr().out
