"""Reading the bytes of one object of a `FilesystemStore`. Readers take no lock: what they may see never changes."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import Final

from distsql.bytestore.filesystem_layout import Layout, Place
from distsql.bytestore.filesystem_objects import place_of

PIECE_BYTES: Final = 256 * 1024

_NO_WAIT: Final = os.RWF_NOWAIT if sys.platform == "linux" else 0

# From this length on the kernel is told to read further ahead.
_SEQUENTIAL_BYTES: Final = 1024 * 1024


def read_cached(path: str, start: int, stop: int) -> bytes | None:
    """Bytes ``start`` to ``stop`` if that takes no waiting for a disk, else None: may run in the event loop.

    None also for whatever is wrong with the file: whether it is uncached, missing or too short, `Source` tells.
    """
    try:
        descriptor = _open(path)
        try:
            data = _read_at_once(descriptor, start, stop - start)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return data if len(data) == stop - start else None


def _read_at_once(descriptor: int, start: int, length: int) -> bytes:
    """What the kernel has in memory of so many bytes; BlockingIOError if it has nothing."""
    data = bytearray(length)
    try:
        return bytes(data[: os.preadv(descriptor, [data], start, _NO_WAIT)])
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # a file system that can't tell, such as tmpfs: mostly quick
            raise
        return os.pread(descriptor, length, start)


class Source:
    """Bytes ``start`` to ``stop`` of an object, one piece of up to `PIECE_BYTES` a call. Its methods block."""

    def __init__(self, layout: Layout, key: str, start: int, stop: int, *, unfinished: bool = False) -> None:
        """With ``unfinished`` the object may be finished or not."""
        self._layout = layout
        self._key = key
        self._position = start
        self._stop = stop
        self._unfinished = unfinished
        self._descriptor: int | None = None

    def first(self, limit: int = PIECE_BYTES) -> bytes:
        """Opens the object and gives its first piece; `BytesMissingError` if it is absent, or ends before ``stop``."""
        if not self._unfinished or self._stop > 0:  # one that is unfinished and has no bytes need not have a file
            place = place_of(self._layout, self._key)
            with self._layout.errors(self._key):
                self._descriptor = self._open_either(place) if self._unfinished else _open(place.finished)
                self._prepare(self._descriptor)
        return self.next(limit)

    def next(self, limit: int = PIECE_BYTES) -> bytes:
        """The next piece, empty at the end."""
        if self._descriptor is None or self._position == self._stop:
            return b""
        with self._layout.errors(self._key):
            piece = os.pread(self._descriptor, min(limit, self._stop - self._position), self._position)
        if not piece:
            raise self._layout.missing(self._key)
        self._position += len(piece)
        return piece

    def next_cached(self, limit: int = PIECE_BYTES) -> bytes | None:
        """The next piece if that takes no waiting for a disk, else None: may run in the event loop."""
        if self._descriptor is not None:
            stop = min(self._position + limit, self._stop)
            with self._layout.errors(self._key):
                if not _is_cached(self._descriptor, self._position, stop):
                    return None
        return self.next(limit)

    def close(self) -> None:
        """Harmless when it was never opened."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open_either(self, place: Place) -> int:
        for path in (place.finished, place.unfinished):
            with suppress(FileNotFoundError):
                return _open(path)
        return _open(place.finished)  # when it was finished between the two

    def _prepare(self, descriptor: int) -> None:
        if os.fstat(descriptor).st_size < self._stop:
            raise self._layout.missing(self._key)
        length = self._stop - self._position
        if sys.platform == "linux" and length >= _SEQUENTIAL_BYTES:
            os.posix_fadvise(descriptor, self._position, length, os.POSIX_FADV_SEQUENTIAL)


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)


def _is_cached(descriptor: int, start: int, stop: int) -> bool:
    """Whether the kernel has the bytes in memory, judged by the first and the last one."""
    if sys.platform != "linux":
        return True  # can't tell
    try:
        for at in (start, max(start, stop - 1)):
            os.preadv(descriptor, [bytearray(1)], at, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # a file system that can't tell, such as tmpfs: mostly quick
            raise
    return True
