"""Who may change an object of a `FilesystemStore`, and how objects are finished and forgotten. All of it blocks.

Who holds the flock on an object's file may change the object; readers take no lock. The lock belongs to the open file,
so it stays through a rename, and the kernel drops it when a process dies. A name can be renamed or unlinked between
open and flock: so after each flock, `claim` looks whether the name still means the locked file.

While an object is under its finished path, a file of its name among the unfinished is a stray of no bytes: left by a
writer of a new object that found neither, when others took the object back and completed it again just then. It is
never used; taking the object back replaces it, and abort removes it.

`abort` takes no lock: it always works, and a writer learns at its next ``flush`` that its file has no name any more.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from distsql.bytestore.contract import Staged
from distsql.bytestore.filesystem_layout import FILE_MODE, Layout, Place, exists, is_at, sync_file
from distsql.errors import UploadBusyError

# Each failed attempt means that somebody else renamed the file just now.
_CLAIM_ATTEMPTS: Final = 4

_BUSY: Final = "another request is writing to this upload right now: try again when it is done"


def complete(layout: Layout, staged: Staged) -> None:
    """Moves the object to its finished path, ``staged.length`` bytes of it, durably. Again is harmless."""
    place, length = place_of(layout, staged.key), staged.length
    with layout.errors(staged.key):
        descriptor, finished = claim(layout, place, create=length == 0)
        try:
            finish(layout, place, descriptor, length, finished=finished)
        finally:
            os.close(descriptor)


def finish(layout: Layout, place: Place, descriptor: int, length: int, *, finished: bool) -> None:
    """Moves the locked file to its finished path (unless it is there), ``length`` bytes of it, durably."""
    size = os.fstat(descriptor).st_size
    if size < length or (finished and size != length):
        raise layout.missing(place.key)
    if finished:
        layout.sync_finished(place)
        return
    if size > length:
        os.ftruncate(descriptor, length)
    if size > length or length == 0:  # else the flush that gave us ``length`` has made it durable
        sync_file(descriptor)
    layout.finish(place)


def abort(layout: Layout, key: str) -> None:
    """Unlinks the object's file, wherever it is; nothing there is no error."""
    if (place := layout.place(key)) is not None:
        # A writer may take it back, or complete may finish it, between two of these.
        _unlink(layout, place.unfinished, place.finished, place.unfinished)


def delete(layout: Layout, key: str) -> None:
    """Unlinks the finished object's file; nothing there is no error."""
    if (place := layout.place(key)) is not None:
        _unlink(layout, place.finished)


def place_of(layout: Layout, key: str) -> Place:
    """The object's paths, `BytesMissingError` when it is no key of this store."""
    place = layout.place(key)
    if place is None:
        raise layout.missing(key)
    return place


def claim(layout: Layout, place: Place, *, create: bool) -> tuple[int, bool]:
    """The object's file, open and locked, and whether it is at its finished path.

    Raises `UploadBusyError` when somebody else has the lock, `BytesMissingError` when there is no file (and ``create``
    is false), else OSError.
    """
    for _ in range(_CLAIM_ATTEMPTS):
        try:
            descriptor, finished = _open(place, create=create)
        except FileNotFoundError:
            continue  # perhaps renamed between the two opens
        if _locked(descriptor, place, finished=finished):
            return descriptor, finished
    if exists(place.finished) or exists(place.unfinished):
        raise UploadBusyError(_BUSY)
    raise layout.missing(place.key)


def _open(place: Place, *, create: bool) -> tuple[int, bool]:
    flags = os.O_RDWR | os.O_NOFOLLOW
    try:
        return os.open(place.finished, flags), True
    except FileNotFoundError:
        return os.open(place.unfinished, flags | (os.O_CREAT if create else 0), FILE_MODE), False


def _locked(descriptor: int, place: Place, *, finished: bool) -> bool:
    """Locks the file, or closes it: with an error, or with false because it isn't the object's file any more."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        keep = _still_there(descriptor, place, finished=finished)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UploadBusyError(_BUSY) from error
    except OSError:
        os.close(descriptor)
        raise
    if not keep:
        os.close(descriptor)
    return keep


def _still_there(descriptor: int, place: Place, *, finished: bool) -> bool:
    """Whether the file that is locked now is still the object's.

    In this order: once there is nothing at the finished path, and then our locked file is at the other, nobody but us
    can move the object any more.
    """
    if finished:
        return is_at(descriptor, place.finished)
    return not exists(place.finished) and is_at(descriptor, place.unfinished)


def _unlink(layout: Layout, *paths: str) -> None:
    for path in paths:
        try:
            Path(path).unlink()
        except FileNotFoundError:
            layout.check_present()
        except OSError as error:
            raise layout.meaning_of(error) from error
