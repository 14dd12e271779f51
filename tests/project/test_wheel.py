"""The wheel alone, installed in an environment elsewhere, migrates and serves."""

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
# One worker builds and installs once for all of them.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]


def clean_environment() -> dict[str, str]:
    # Settings of whoever runs the tests, and a checkout on PYTHONPATH, must not help.
    return {name: value for name, value in os.environ.items() if not name.startswith(("DISTSQL_", "PYTHON"))}


def run(command: Sequence[str | Path], *, cwd: Path) -> str:
    env = clean_environment()
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run([*pip, "--wheel-dir", str(folder), str(ROOT)], cwd=folder)
    (built,) = folder.glob("distsql-*.whl")
    return built


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`distsql` of an environment that has our dependencies and the wheel, but not this checkout."""
    home = tmp_path_factory.mktemp("elsewhere") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    (site_packages,) = home.glob("lib/python*/site-packages")
    # A folder named in a .pth file is searched, but its own .pth files are not read: the editable install stays unseen.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    run([*pip, "--force-reinstall", str(wheel)], cwd=home)
    found = run([python, "-c", "import distsql; print(distsql.__file__)"], cwd=home).strip()
    assert Path(found).is_relative_to(site_packages)
    return home / "bin" / "distsql"


@contextmanager
def serving(program: Path, *, data: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = clean_environment()
    log = data.parent / "serve.log"
    with log.open("w") as output:
        command = [str(program), "serve", "--data", str(data), "--port", str(port)]
        server = subprocess.Popen(command, cwd=data.parent, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        ready = f"distsql is ready on http://127.0.0.1:{port}"
        while ready not in log.read_text():
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0, log.read_text()
    finally:
        if server.poll() is None:
            server.kill()
            server.wait(timeout=30)


def test_the_wheel_carries_its_schema(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = (path for path in (ROOT / "migrations").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    migrations = {str(path.relative_to(ROOT)) for path in files}
    assert any(name.startswith("migrations/versions/") for name in migrations)
    assert {"distsql/_schema/alembic.ini"} | {f"distsql/_schema/{name}" for name in migrations} <= names
    assert "distsql/__main__.py" in names


def test_the_wheel_carries_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"distsql"}
    assert [name for name in names if "__pycache__" in name or name.endswith(".pyc")] == []


def test_the_wheel_migrates_and_serves(program: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    run([program, "migrate", "--data", data], cwd=tmp_path)
    with serving(program, data=data) as address:
        assert httpx.get(f"{address}/healthz").status_code == 200
        assert httpx.get(f"{address}/v2/").status_code == 200


def test_the_wheel_serves_from_nothing(program: Path, tmp_path: Path) -> None:
    with serving(program, data=tmp_path / "data") as address:
        assert httpx.get(f"{address}/healthz").status_code == 200
