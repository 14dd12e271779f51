"""What a process remembers is bounded: in time, in number, and in bytes."""

from __future__ import annotations

import time

import pytest

from distsql.registry.remembering import MOST, Remembered


def test_each_for_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: Remembered[str, int] = Remembered()
    remembered.add("short", 1, seconds=1)
    remembered.add("long", 2, seconds=60)
    later = time.monotonic() + 2
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert (remembered.find("short"), remembered.find("long")) == (None, 2)


def test_the_oldest_go() -> None:
    remembered: Remembered[int, int] = Remembered()
    for number in range(MOST + 1):
        remembered.add(number, number, seconds=60)
    assert remembered.find(0) is None
    assert remembered.find(MOST) == MOST
    assert len(list(remembered)) <= MOST


def test_long_texts_count_by_their_length() -> None:
    """Whoever asks for tokens of 32 kB fills no more memory than others; what is added again counts once."""
    remembered: Remembered[int, str] = Remembered()
    for number in range(2 * MOST // 32):
        for _ in range(2):
            remembered.add(number, "", seconds=60, length=32 * 1024)
    assert MOST // 64 < len(list(remembered)) <= MOST // 32
    remembered.clear()
    for number in range(MOST):
        remembered.add(number, "", seconds=60)
    assert len(list(remembered)) == MOST


def test_what_is_forgotten_makes_room() -> None:
    remembered: Remembered[int, str] = Remembered()
    for number in range(3 * MOST):
        remembered.add(number, "", seconds=60)
        remembered.forget(number)
    remembered.add(-1, "it", seconds=60)
    assert list(remembered) == [-1]


def test_of_what_is_forgotten_the_end_is_told() -> None:
    """Whoever still has it must know: forgotten, replaced, put out by others, or with everything."""
    ended: list[str] = []
    remembered: Remembered[int, str] = Remembered(ended.append)
    for key, value in ((1, "forgotten"), (2, "replaced"), (2, "kept"), (3, "over")):
        remembered.add(key, value, seconds=0 if value == "over" else 60)
    remembered.forget(1)
    remembered.forget(1)
    assert ended == ["replaced", "forgotten"]
    assert (remembered.find(3), remembered.look(3), remembered.look(4)) == (None, "over", None)
    remembered.add(4, "large", seconds=60, length=(MOST - 2) * 1024)
    assert ended[2:] == ["kept"]
    remembered.clear()
    assert ended[3:] == ["over", "large"]
    assert list(remembered) == []
