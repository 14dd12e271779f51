"""Client programs, and the boxes in which they run: folders of their own for everything that they would otherwise keep
in the machine's, so that tests don't see each other and nothing stays behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SECONDS = 120

# runc and others live in sbin, which not every PATH has.
SEARCH_PATH = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"

# Some paths can't be set: as root, skopeo keeps its cache in /var/lib/containers whatever HOME is, and runc its state
# in /run. A mount namespace gives each command its own, and takes every mount that a client makes away with it.
OWN_FOLDERS = 'mount --bind "$1" /var/lib && mount --bind "$2" /run && shift 2 && exec "$@"'


def require(program: str) -> str:
    """The path of a client program. A machine without it skips the test, CI fails."""
    found = shutil.which(program, path=SEARCH_PATH)
    if found is None:
        reason = f"{program} isn't installed: ./run.sh clients"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class ProgramFailedError(AssertionError):
    """A client ended with an error; its message is all that it said."""


@dataclass(frozen=True)
class Box:
    """One user's machine, as far as a client can tell: a home, container storage, temporary files."""

    folder: Path
    environment: Mapping[str, str]
    prefix: tuple[str, ...]

    def run(self, *command: str | Path) -> str:
        """What the command printed on stdout. It has to succeed."""
        environment = {**self.environment, "PATH": SEARCH_PATH}
        ended = subprocess.run(
            [*self.prefix, *command],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if ended.returncode != 0:
            line = " ".join(map(str, command))
            raise ProgramFailedError(f"{line}\nexit status {ended.returncode}\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def fail(self, *command: str | Path) -> str:
        """What the command said as it failed, which it has to."""
        with pytest.raises(ProgramFailedError) as caught:
            self.run(*command)
        return str(caught.value)

    def make_folder(self, name: str) -> Path:
        """For what a client writes."""
        path = self.folder / name
        path.mkdir()
        return path

    def run_container(self, *command: str) -> str:
        """What a container printed: without a bridge, which not every machine has, and within limits that a user who
        is already limited may set. Its group of processes has the box's name, to be found and removed."""
        group = ("--cgroup-parent", f"/{group_name(self.folder)}") if os.geteuid() == 0 else ()
        limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
        return self.run("podman", "--runtime", "runc", "run", "--rm", "--network", "host", *limits, *group, *command)


@contextmanager
def make_box(folder: Path, *, insecure: str | None) -> Iterator[Box]:
    """A box whose clients speak plain HTTP to one host and port, or to none."""
    for name in ("home/.config/containers", "runtime", "storage", "tmp", "own/lib", "own/run"):
        (folder / name).mkdir(parents=True)
    (folder / "runtime").chmod(0o700)
    for name, text in settings(folder, insecure).items():
        (folder / name).write_text(text, encoding="utf-8")
    environment = {
        "HOME": str(folder / "home"),
        "XDG_RUNTIME_DIR": str(folder / "runtime"),
        "TMPDIR": str(folder / "tmp"),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "LANG": "C.UTF-8",
    }
    own = (str(folder / "own/lib"), str(folder / "own/run"))
    prefix = ("unshare", "--mount", "sh", "-c", OWN_FOLDERS, "sh", *own) if may_mount() else ()
    try:
        yield Box(folder, environment, prefix)
    finally:
        left = leftovers(folder)
        remove_groups(group_name(folder))
        remove(folder, environment)
    assert not left, f"clients left behind: {left}"


def settings(folder: Path, insecure: str | None) -> dict[str, str]:
    """Configuration files by name. vfs needs no kernel support and no mounts.

    tmp_dir is short: podman attaches to a container through TMP_DIR/socket/ID/attach, and where that is longer than the
    107 bytes of a socket's address it misses the end of the container, and waits for 20 seconds.
    """
    return {
        "home/.config/containers/policy.json": json.dumps({"default": [{"type": "insecureAcceptAnything"}]}),
        "home/.config/containers/registries.conf": f'[[registry]]\nlocation = "{insecure}"\ninsecure = true\n'
        if insecure
        else "",
        "storage.conf": f"""\
[storage]
driver = "vfs"
graphroot = "{folder}/storage"
runroot = "{folder}/runtime/storage"
""",
        "containers.conf": f"""\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "runc"
tmp_dir = "{folder}/t"
[network]
network_config_dir = "{folder}/networks"
""",
    }


@cache
def may_mount() -> bool:
    """Root may, unless it is only a container's. Other users' clients keep to HOME by themselves."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    probe = ["unshare", "--mount", "mount", "--bind", "/tmp", "/tmp"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def leftovers(folder: Path) -> list[str]:
    """Mounts and processes that have to do with a folder; what is just ending is given a moment."""
    deadline = time.monotonic() + 10
    while found := [*mounts_below(folder), *processes_naming(folder)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return found


def mounts_below(folder: Path) -> list[str]:
    table = Path("/proc/self/mounts")
    return [line for line in table.read_text().splitlines() if f"{folder}/" in line] if table.exists() else []


def processes_naming(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # ended meanwhile
            continue
        if f"{folder}/" in command:
            found.append(command)
    return found


def group_name(folder: Path) -> str:
    return "-".join(folder.parts[-2:])


def remove_groups(name: str) -> None:
    """podman makes control groups and leaves the empty ones."""
    root = Path("/sys/fs/cgroup")
    for top in [*root.glob(name), *root.glob(f"*/{name}")]:
        for path, _, _ in os.walk(top, topdown=False):
            Path(path).rmdir()


def remove(folder: Path, environment: Mapping[str, str]) -> None:
    if os.geteuid() != 0 and shutil.which("podman"):
        # Files of a rootless container belong to users that only its user namespace may act for.
        command = ["podman", "unshare", "rm", "-rf", str(folder / "storage")]
        subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)
    shutil.rmtree(folder)
