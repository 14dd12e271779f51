"""What logging in and many tenants cost is measured to its end, with little content, so that it can't rot."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from benchmarks import served_tenants
from benchmarks.__main__ import make_folder
from benchmarks.tenancy import describe, fill, measure, ratios

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("benchmarks")]


def test_all_sides_are_measured() -> None:
    heard: list[str] = []
    with make_folder() as folder, ExitStack() as stack:
        sizes = [{"tenants": 2, "tags": 2}, {"tenants": 4, "tags": 1}]
        catalogues = [stack.enter_context(fill(folder / str(at), **size)) for at, size in enumerate(sizes)]
        sides = asyncio.run(measure(catalogues, rounds=2, requests=32, tell=heard.append))
        assert [len(side.costs) for side in sides] == [2] * 4
        assert all(cost.own > 0 and cost.clock > 0 for side in sides for cost in side.costs)
        assert len(heard) == 4 + 2 * 4
        assert describe(ratios(sides[0], sides[1])[0]).count(".") == 3
        served = stack.enter_context(served_tenants.open_sides(catalogues[0]))
        served_tenants.measure(served, rounds=1, seconds=0.2, tell=heard.append)
        assert [side.name for side in served] == ["2 tenants, tokens", "2 tenants, open"]
        assert all(cost.own > 0 and cost.clock > 0 for side in served for cost in side.costs)
        assert served[0].file.read_text().count(" ey") == 4
