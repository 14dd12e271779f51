"""Servers that are killed while clients push, pull, delete and mount, for a few seconds; and what several cost."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import scaling
from benchmarks.__main__ import make_folder
from benchmarks.fleets import running_fleet
from benchmarks.soak import soak, verify

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("benchmarks")]


def test_what_was_acknowledged_survives_the_servers() -> None:
    with make_folder() as folder, running_fleet(folder, 2) as (fleet, catalogue):
        costs = asyncio.run(scaling.measure(fleet, folder, rounds=1, requests=48))
        told = asyncio.run(soak(fleet, clients=6, seconds=8, kill_every_s=1.5))
        verified = verify(catalogue)
    assert all(cost.servers >= 0 and cost.postgres >= 0 for cost in costs)
    assert told.problems == []
    assert told.images
    assert told.done["servers killed"] > 0
    assert told.done["pulls"] > 0
    assert verified.returncode == 0, verified.stdout + verified.stderr
