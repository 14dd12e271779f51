"""How keys begin: those of one time are in few places of an index of keys, and in time all folders have as many."""

from __future__ import annotations

import re
from collections import Counter
from itertools import count

import pytest

from distsql.bytestore.stems import new_stem

START_NS = 1_764_000_000_000_000_000
MINUTE_NS = 60_000_000_000


def make(monkeypatch: pytest.MonkeyPatch, number: int, *, every_ns: int) -> list[str]:
    clock = count(START_NS, every_ns)
    monkeypatch.setattr("distsql.bytestore.stems.time.time_ns", lambda: next(clock))
    return [new_stem() for _ in range(number)]


def test_behind_its_two_digits_the_later_one_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(monkeypatch, 2_000, every_ns=MINUTE_NS)
    assert sorted(made) == sorted(made, key=lambda stem: stem[:2])  # which keeps the order of their making


def test_those_of_a_minute_are_in_few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(monkeypatch, 2_000, every_ns=MINUTE_NS // 2_000)
    assert len({stem[:2] for stem in made}) <= 32


def test_those_of_one_instant_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(monkeypatch, 20_000, every_ns=0)
    assert len(set(made)) == 20_000
    assert all(re.fullmatch(r"([0-9a-f]{2})/\1[0-9a-f]{30}", stem) for stem in made)


def test_those_of_a_day_are_in_all_folders_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = Counter(stem[:2] for stem in make(monkeypatch, 24 * 60 * 20, every_ns=MINUTE_NS // 20))
    assert len(numbers) == 256
    assert max(numbers.values()) < 3 * min(numbers.values())
