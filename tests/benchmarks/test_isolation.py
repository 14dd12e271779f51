"""What row-level security costs is measured to its end, with little content, so that it can't rot."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.__main__ import make_folder
from benchmarks.isolation import filled_catalogue, measure

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("benchmarks")]


def test_both_ways_are_measured() -> None:
    with make_folder() as folder, filled_catalogue(folder, tenants=3) as url:
        costs = asyncio.run(measure(url, folder, tenants=3, rounds=1, requests=64))
    assert all(cost.own > 0 and cost.clock > 0 for cost in costs)
