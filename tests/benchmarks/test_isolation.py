"""What row-level security costs is measured to its end, with little content, so that it can't rot."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.__main__ import make_folder
from benchmarks.isolation import VARIANTS, filled_catalogue, measure

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("benchmarks")]


def test_all_variants_are_measured() -> None:
    with make_folder() as folder, filled_catalogue(folder, tenants=3) as url:
        costs = asyncio.run(measure(url, folder, tenants=[1, 3], rounds=1, requests=64))
    assert set(costs) == {(tenants, variant) for tenants in (1, 3) for variant in VARIANTS}
    assert all(cost.own > 0 and cost.clock > 0 for cost in costs.values())
