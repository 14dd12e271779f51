"""Where a `FilesystemStore` keeps things, and the small steps on files that its parts share. All of it blocks."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from distsql.bytestore.contract import StoredObject
from distsql.errors import BytesMissingError, StoreFullError, StoreUnavailableError

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700

# Two hex digits, then all 32: the fan-out folder repeats the beginning of the name.
_KEY: Final = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{30})", re.ASCII)
_NAME: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)

# EFBIG: the file system's, or ulimit's, largest file.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_RETRY_S: Final = 30
_REFUSED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class Place(NamedTuple):
    """The two paths of one object; it is at one of them at a time, and moves by rename."""

    key: str
    folder: str
    finished: str
    unfinished: str


class Layout:
    """``ROOT/objects/ab/<32 hex>`` for finished objects, ``ROOT/staging/<32 hex>`` for unfinished ones."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Strings, here and in `Place`: a Path costs more than the open() that it is for.
        self.objects = str(root / "objects")
        self.staging = str(root / "staging")
        self._durable_folders: set[str] = set()

    def place(self, key: str) -> Place | None:
        """Where the object is or would be; None for what is no key of this store, under which there can't be anything.

        This is what keeps every path inside the root.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            return None
        return Place(key, f"{self.objects}/{match[1]}", f"{self.objects}/{key}", f"{self.staging}/{match[2]}")

    def make(self) -> None:
        """Creates the folders that are missing, durably."""
        for folder in (self.objects, self.staging):
            _make_folder(Path(folder))

    def finish(self, place: Place) -> None:
        """Moves the object's file, whose bytes are durable, from unfinished to finished. Durable on return."""
        try:
            Path(place.unfinished).rename(place.finished)
        except FileNotFoundError:  # the folder is new, or the file is gone: the second try tells
            Path(place.folder).mkdir(FOLDER_MODE, exist_ok=True)
            self._durable_folders.discard(place.folder)
            Path(place.unfinished).rename(place.finished)
        self.sync_finished(place)

    def take_back(self, place: Place) -> None:
        """Moves the object's file from finished to unfinished."""
        Path(place.finished).rename(place.unfinished)

    def sync_finished(self, place: Place) -> None:
        """Makes durable that the object is finished; also for a process that died between rename and fsync."""
        if place.folder not in self._durable_folders:  # new, or of a process that died before this fsync
            sync_folder(self.objects)
            self._durable_folders.add(place.folder)
        sync_folder(place.folder)
        sync_folder(self.staging)

    @contextmanager
    def errors(self, key: str) -> Iterator[None]:
        """Turns the operating system's errors into meanings."""
        try:
            yield
        except FileNotFoundError as error:
            raise self.missing(key) from error
        except OSError as error:
            raise self.meaning_of(error) from error

    def missing(self, key: str) -> BytesMissingError:
        """What to raise for an object that isn't there."""
        self.check_present()
        return BytesMissingError(f"{self.root} has no object {key[:64]!r}, or not all of its bytes")

    def check_present(self) -> None:
        """Where a file is missing: `StoreUnavailableError` if all of them are. An unmounted disk has lost nothing."""
        for folder in (self.objects, self.staging):
            if not Path(folder).is_dir():
                raise StoreUnavailableError(f"{folder} has gone away: is the disk mounted?")

    def meaning_of(self, error: OSError) -> StoreFullError | StoreUnavailableError:
        """The error to raise for one of the operating system."""
        if error.errno in _FULL:
            return StoreFullError(
                f"no room for content in {self.root}: {error.strerror}. Free space there, raise the quota, or delete "
                "images and collect garbage; what was acknowledged is safe",
                retry_after=_FULL_RETRY_S,
            )
        hint = ". The user that runs distsql needs to read and write there" if error.errno in _REFUSED else ""
        return StoreUnavailableError(f"the byte store in {self.root} fails: {error}{hint}")

    def walk(self) -> Generator[StoredObject]:
        """Every object, one folder entry in memory at a time; unfinished ones first, as that is how objects move."""
        yield from _entries(self.staging, complete=False)
        with os.scandir(self.objects) as folders:
            for folder in folders:
                if len(folder.name) == 2 and folder.is_dir():  # noqa: PLR2004 - "ab"
                    yield from _entries(folder.path, complete=True)


def sync_file(descriptor: int) -> None:
    """Makes the file's bytes and length durable."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync there stops at the disk's volatile cache
    else:
        os.fdatasync(descriptor)


def sync_folder(path: str) -> None:
    """Makes durable which names the folder has."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exists(path: str) -> bool:
    """Whether there is something of this name; unlike in os.path.lexists, a failing disk is an OSError and not a no."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def is_at(descriptor: int, path: str) -> bool:
    """Whether the open file is the one that has this path now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _make_folder(path: Path) -> None:
    if not path.parent.is_dir():
        _make_folder(path.parent)
    path.mkdir(FOLDER_MODE, exist_ok=True)
    sync_folder(str(path.parent))


def _entries(folder: str, *, complete: bool) -> Iterator[StoredObject]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _NAME.fullmatch(entry.name):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # finished or deleted since the folder was read
            modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
            yield StoredObject(f"{entry.name[:2]}/{entry.name}", status.st_size, modified_at, complete)
