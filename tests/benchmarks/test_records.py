"""What audit, events and counting cost is measured to its end, with few requests, so that it can't rot."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import served_records
from benchmarks.__main__ import make_folder
from benchmarks.records import OPERATIONS, catalogue, measure

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("benchmarks")]


def test_both_variants_are_measured() -> None:
    with make_folder() as folder, catalogue(folder) as url:
        costs = asyncio.run(measure(url, folder, rounds=1, requests=32, tags=20))
    assert set(costs) == {(operation, variant) for operation in OPERATIONS for variant in ("on", "off")}
    assert all(cost.own > 0 for rounds in costs.values() for cost in rounds)


def test_a_server_that_counts_is_measured_beside_one_that_does_not() -> None:
    with make_folder() as folder:
        report = served_records.measure(folder, rounds=1, seconds=0.2, smoke=True)
    assert [result.operation.name for result in report.results] == list(served_records.OPERATIONS)
