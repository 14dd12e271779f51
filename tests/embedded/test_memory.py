"""Buffers by the size of the machine, or of the container on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distsql.embedded import PrivatePostgres, memory
from distsql.embedded.memory import LEAST, MIB, MOST, buffers, find_memory

from .conftest import select

GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("found", "taken"),
    [(0, LEAST), (512 * MIB, LEAST), (2 * GIB, 256 * MIB), (3 * GIB + 5, 384 * MIB), (64 * GIB, MOST)],
)
def test_an_eighth_within_bounds(monkeypatch: pytest.MonkeyPatch, found: int, taken: int) -> None:
    monkeypatch.setattr(memory, "find_memory", lambda: found)
    assert buffers() == taken


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_container_s_limit_counts_where_it_is_less(tmp_path: Path, name: str) -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert find_memory(tmp_path) == machine
    limit = tmp_path / "sys/fs/cgroup" / name
    limit.parent.mkdir(parents=True)
    for text, found in (("max\n", machine), (f"{2**63 - 4096}\n", machine), (f"{MIB}\n", MIB)):
        limit.write_text(text)
        assert find_memory(tmp_path) == found


def test_a_server_takes_them_and_another_file_has_the_last_word(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "find_memory", lambda: 1600 * MIB)
    with PrivatePostgres(data):
        assert select(PrivatePostgres.url(data), "show shared_buffers") == "200MB"
        (data / "postgres/conf.d/90-local.conf").write_text("shared_buffers = 64MB\n")
    with PrivatePostgres(data):
        assert select(PrivatePostgres.url(data), "show shared_buffers") == "64MB"
