"""Servers that are killed while clients push, pull, delete and mount, for a few seconds; and what several cost."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import scaling
from benchmarks.__main__ import make_folder
from benchmarks.fleets import running_fleet
from benchmarks.soak import LARGE, SIZES, soak, verify
from tests.objectstore import ObjectStore

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("benchmarks")]


@pytest.mark.parametrize("store", ["folder", "s3"])
def test_what_was_acknowledged_survives_the_servers(store: str, request: pytest.FixtureRequest) -> None:
    storage, sizes = "", SIZES
    if store == "s3":
        server: ObjectStore = request.getfixturevalue("object_store")
        storage, sizes = server.url(), (*SIZES * 3, LARGE)
    with make_folder() as folder, running_fleet(folder, 2, storage=storage) as (fleet, catalogue):
        if store == "folder":
            costs_are_measured(scaling.Deployment(fleet, folder))
        told = asyncio.run(soak(fleet, clients=6, seconds=5, kill_every_s=1.2, sizes=sizes))
        verified = verify(catalogue)
    assert told.problems == []
    assert told.images
    assert told.done["servers killed"] > 0
    assert told.done["pulls"] > 0
    assert verified.returncode == 0, verified.stdout + verified.stderr


def costs_are_measured(deployment: scaling.Deployment) -> None:
    """A round of each operation; the same servers stand for one as well."""
    found = scaling.measure(
        deployment, deployment, scaling.OPERATIONS[0], servers=2, rounds=1, seconds=0.2, pause_ms=20
    )
    costs = [*found[0], deployment.measure(scaling.PUT, seconds=0.2, pause_ms=20)]
    assert len(costs) == 4
    assert all(cost.rate > 0 for cost in costs)
