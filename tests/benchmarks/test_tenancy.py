"""What logging in and many tenants cost is measured to its end, with little content, so that it can't rot."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from benchmarks.__main__ import make_folder
from benchmarks.tenancy import catalogue, describe, measure, ratios

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("benchmarks")]


def test_all_sides_are_measured() -> None:
    heard: list[str] = []
    with make_folder() as folder, ExitStack() as stack:
        catalogues = [stack.enter_context(catalogue(folder / str(number), tenants=number)) for number in (2, 4)]
        sides = asyncio.run(measure(catalogues, rounds=2, requests=32, tell=heard.append))
    assert [len(side.costs) for side in sides] == [2] * 4
    assert all(cost.own > 0 and cost.clock > 0 for side in sides for cost in side.costs)
    assert len(heard) == 4 + 2 * 4
    assert describe(ratios(sides[0], sides[1])[0]).count(".") == 3
