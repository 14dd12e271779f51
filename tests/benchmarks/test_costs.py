"""What single operations cost is measured to its end, with little content, so that it can't rot; not how much it is."""

from __future__ import annotations

import pytest

from benchmarks.costs import ENTRIES, PAGES, measure

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("benchmarks")]


def test_every_cost_is_measured() -> None:
    costs = measure(referrers=200, tags=2000, length=2**18)
    assert [cost.name for cost in costs[len(ENTRIES) :]] == [f"page of {name}" for name in PAGES]
    assert all(cost.own > 0 for cost in costs)
