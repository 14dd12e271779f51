"""Reports are asked on a small catalogue of the benchmark's making, so that it can't rot; times say nothing here."""

from __future__ import annotations

import pytest

from benchmarks.large_catalogue import filled_catalogue
from benchmarks.reports import measure

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("benchmarks")]

# In so little, others have nothing to tell.
TELL = {
    "audit",
    "garbage",
    "labels",
    "media_types",
    "pulls_by_day",
    "stuck_uploads",
    "tenant_usage",
    "untagged_manifests",
}


def test_every_report_is_asked_and_has_something_to_say(postgres_server: str) -> None:
    with filled_catalogue(postgres_server, manifests=2_000, events=3_000) as url:
        costs = measure(url)
    assert {who for _, who in costs} == {"auditor", "tenant"}
    assert {name for (name, _), cost in costs.items() if cost.rows} >= TELL
    assert all(cost.milliseconds > 0 for cost in costs.values())
