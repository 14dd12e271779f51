"""Scale is measured to its end, between two small catalogues, so that it can't rot; not how much it is."""

from __future__ import annotations

import pytest
from rich.console import Console

from benchmarks import scale
from benchmarks.__main__ import make_folder
from benchmarks.population import Shape
from benchmarks.scale_report import print_figures
from benchmarks.scaled_statements import WALKS
from tests.plans.test_budgets import BUDGETS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("benchmarks")]


def test_everything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "SMALL", {"tenants": 20, "repositories": 300, "manifests": 400, "tags": 2_000})
    sizes = ["--tenants", "40", "--repositories", "400", "--manifests", "2000", "--tags", "10000"]
    lengths = ["--rounds", "1", "--starts", "1", "--seconds", "1", "--churn", "0"]
    with make_folder() as folder:
        monkeypatch.setattr("benchmarks.vacuums.PATIENCE_S", 0)
        figures = scale.run(scale.parse_arguments(["all", "--data", str(folder), *sizes, *lengths]))
        assert list(folder.iterdir()) == []
    assert figures is not None
    assert {one.name for one in figures.operations} > BUDGETS.keys() - WALKS
    assert {one.name for one in figures.statements} >= {"find_tagged_manifest", "list_tags"}
    assert min(figures.large.ready_s, figures.large.fresh_mib) > 0
    assert sum(second.requests for second in figures.restart) > 10
    console = Console(record=True, width=120)
    print_figures(figures, console)
    assert "2,000 manifests, 10,000 live tags" in console.export_text()


def test_a_manifest_is_where_its_number_says() -> None:
    shape = Shape(tenants=10, repositories=100, manifests=1000, events=0, acme=2, web=50, tagged=1)
    assert shape.place(7) == ("acme/web", "v7")
    assert shape.place(60) == (f"tenant-{2 + 61 % 9}/repository-61", "v60")
    assert shape.place(201) == ("acme/repository-2", "latest")
