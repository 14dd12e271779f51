"""How many workers a machine gets: by its cores, and by what a container may use of them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from distsql import cores


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 16),
        ("100000 100000", 1),
        ("250000 100000", 3),
        ("20000 100000", 1),
        ("9900000 100000", 16),
        (None, 16),
        ("what is this", 16),
    ],
)
def test_a_container_s_quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str | None, expected: int) -> None:
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(f"{quota}\n")
    monkeypatch.setattr(cores, "_QUOTA", file)
    monkeypatch.setattr(cores, "_everywhere", frozenset(range(16)))
    assert cores.count_cores() == expected
    assert cores.suggest_workers() == min(expected, 4)


def refuse(*_: object) -> None:
    raise OSError(errno.ENOSYS, "some sandboxes know nothing of it")


def test_who_has_no_core_of_its_own_moves_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    moved: list[int] = []
    monkeypatch.setattr("os.sched_setaffinity", lambda pid, _: moved.append(pid))
    monkeypatch.setattr("os.sched_setscheduler", refuse)
    monkeypatch.setattr(cores, "_everywhere", frozenset(range(16)))
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "none")
    for workers in (1, 15, 17):
        cores.settle(tmp_path, workers=workers, postgres=True)
    cores.leave()
    cores.bring_along(1)
    assert moved == []
    assert list(tmp_path.iterdir()) == []
