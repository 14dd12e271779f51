"""Long and odd paths, closed folders, other users."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

import distsql
from distsql.embedded import PrivatePostgres, find_binaries
from distsql.embedded.accounts import ENTER, READ, Account, can_enter, permits
from distsql.embedded.choices import readable_copy
from distsql.embedded.errors import ClusterAccessError, NoClusterError

from .conftest import keep, needs_root, select

ODD_NAMES = ["with  two spaces ", 'it\'s "quoted"', "back\\slash%20", "a,b", "#?&=:@+;$x", "ünï cödé", "-x", "x" * 120]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_and_long_paths(data: Path, name: str) -> None:
    moved = data.rename(data.with_name(name))
    with PrivatePostgres(moved):
        url = PrivatePostgres.url(moved)
        assert url.isascii()
        assert select(url, "select 1") == 1
        folder = Path(str(make_url(url).query["host"]))
        assert (folder / ".s.PGSQL.5432").is_socket()
        assert folder.stat().st_mode & 0o777 == 0o700
        is_short = folder.parent != (moved / "postgres").resolve()
        assert is_short == (name in {"a,b", "x" * 120})
    if is_short:
        assert not folder.exists()


def test_a_folder_may_move_and_become_short_again(data: Path) -> None:
    long = data.rename(data.with_name("y" * 120))
    with PrivatePostgres(long):
        keep(PrivatePostgres.url(long), rows=3)
    short = long.rename(long.with_name("z"))
    with PrivatePostgres(short):
        assert str(short) in PrivatePostgres.url(short)
        assert select(PrivatePostgres.url(short), "select count(*) from kept") == 3


def test_a_foreign_folder_in_the_temporary_folder_is_refused(data: Path) -> None:
    long = data.rename(data.with_name("f" * 120))
    with PrivatePostgres(long):
        folder = (long / "postgres" / "socket").readlink()
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    try:
        with pytest.raises(ClusterAccessError, match="isn't a private folder"):
            PrivatePostgres(long).start()
    finally:
        folder.rmdir()


def test_control_characters_are_refused(place: Path) -> None:
    with pytest.raises(ClusterAccessError, match="control characters"):
        PrivatePostgres(place / "a\nb").start()


def test_a_relative_path_is_fine(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    with PrivatePostgres(Path("data")):
        monkeypatch.chdir("/")
        assert select(PrivatePostgres.url(data), "select 1") == 1


@pytest.mark.slow
@needs_root
def test_below_a_private_folder_the_cluster_lives_elsewhere(place: Path) -> None:
    private = place / "private"
    private.mkdir(mode=0o700)
    data, system = private / "data", place / "system"
    with PrivatePostgres(data, system_dir=system):
        keep(PrivatePostgres.url(data), rows=3)
        assert (data / "postgres").is_symlink()
    assert private.stat().st_mode & 0o777 == 0o700
    assert (system / "clusters") == (data / "postgres").readlink().parent
    renamed = data.rename(private / "renamed")
    with PrivatePostgres(renamed, system_dir=system):
        assert select(PrivatePostgres.url(renamed), "select count(*) from kept") == 3
    shutil.rmtree((renamed / "postgres").readlink())
    for act in (PrivatePostgres.url, lambda path: PrivatePostgres(path, system_dir=system).start()):
        with pytest.raises(NoClusterError, match="which is gone"):
            act(renamed)


@needs_root
def test_a_folder_that_became_private_is_told(data: Path) -> None:
    data.parent.chmod(0o700)
    with pytest.raises(ClusterAccessError, match="can't enter"):
        PrivatePostgres(data).start()
    assert data.parent.stat().st_mode & 0o777 == 0o700


@needs_root
def test_a_cluster_of_root_is_refused(data: Path) -> None:
    status = (data / "postgres" / "cluster").stat()
    os.chown(data / "postgres" / "cluster", 0, 0)
    with pytest.raises(ClusterAccessError, match="chown -R"):
        PrivatePostgres(data).start()
    os.chown(data / "postgres" / "cluster", status.st_uid, status.st_gid)


ORDINARY = """
import os, sys
from pathlib import Path
from distsql.embedded import PrivatePostgres, find_binaries
from distsql.embedded.errors import ClusterAccessError
data = Path(sys.argv[1])
assert os.geteuid() != 0
for _ in range(2):
    with PrivatePostgres(data, find_binaries(Path(sys.argv[2]))) as server:
        assert PrivatePostgres.is_running(data)
        print(PrivatePostgres.url(data), flush=True)
        sys.stdin.readline()
for act in (PrivatePostgres.url, PrivatePostgres.is_running, lambda path: PrivatePostgres(path).start()):
    try:
        act(Path(sys.argv[3]))
    except ClusterAccessError as error:
        print("refused:", error, flush=True)
"""


@pytest.mark.slow
@needs_root
def test_an_ordinary_user(place: Path, data: Path) -> None:
    """In a process of another user, whose Python and copy of our code are where that user can read them."""
    nobody = Account(pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
    python = _python_for(nobody)
    source = Path(distsql.__file__).parent
    (place / "code" / "distsql").mkdir(parents=True)
    (place / "code" / "distsql" / "__init__.py").touch()
    shutil.copy(source / "errors.py", place / "code" / "distsql")
    shutil.copytree(source / "embedded", place / "code" / "distsql" / "embedded")
    binaries = readable_copy(find_binaries(), nobody, system_dir=place / "system")
    own = place / "own"
    own.mkdir(mode=0o700)
    os.chown(own, nobody.uid, nobody.gid)
    process = subprocess.Popen(
        [python, "-c", ORDINARY, own / "data", binaries.folder, data],
        user=nobody.uid, group=nobody.gid, extra_groups=[], cwd="/",
        env={"PYTHONPATH": str(place / "code")}, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(2):
        assert select(process.stdout.readline().strip(), "select current_user") == "distsql"
        process.stdin.write("\n")
        process.stdin.flush()
    rest, _ = process.communicate()
    assert process.returncode == 0
    assert rest.count("refused:") == 3
    # root takes over a cluster of an ordinary user, and gives it back usable
    with PrivatePostgres(own / "data", binaries):
        assert select(PrivatePostgres.url(own / "data"), "select 1") == 1
    owned = [file for file in (own / "data").rglob("*") if file.lstat().st_uid != nobody.uid]
    assert not owned


def _python_for(account: Account) -> str:
    for candidate in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if candidate is None:
            continue
        real = Path(candidate).resolve()
        if can_enter(real.parent, account) and permits(real, account, wanted=READ | ENTER):
            answer = subprocess.run(
                [candidate, "-c", "import sys; print(sys.version_info >= (3, 11))"],
                capture_output=True,
                text=True,
                check=True,
            )
            if answer.stdout.strip() == "True":
                return candidate
    pytest.skip("no Python 3.11 that an ordinary user can run")
