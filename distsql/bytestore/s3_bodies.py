"""The bytes of one part on their way: as much memory as there are bytes, and none when they have been sent."""

from __future__ import annotations

import io
import mmap
from contextlib import suppress
from typing import Final

from distsql.bytestore.contract import Buffer

_PAGE: Final = mmap.PAGESIZE

# The HTTP library asks for 16 KiB at a time and sends what it gets, so it gets more: 500 sends for a part made pushes
# slower by about a fifth.
_PIECE: Final = 1024 * 1024


class Body:
    """Takes bytes up to ``size``, and then gives them to the client library as a file that it may read again.

    Pages of its own and not Python's memory: that comes from malloc, which keeps what was freed once a few parts have
    come and gone (its threshold for pages of their own grows with what it sees), and a writer then takes up to twice
    what it holds.
    """

    def __init__(self, size: int, *, piece: int = _PIECE) -> None:
        self._pages: mmap.mmap | None = None
        self._size = size
        self._piece = piece
        self._length = 0
        self._position = 0

    def __len__(self) -> int:
        return self._length

    @property
    def room(self) -> int:
        """How many bytes it still takes."""
        return self._size - self._length

    def add(self, data: Buffer) -> None:
        """Adds bytes; no more than there is room for."""
        if self._pages is None:
            self._pages = mmap.mmap(-1, -(-self._size // _PAGE) * _PAGE)
        end = self._length + len(data)
        self._pages[self._length : end] = data
        self._length = end

    # -- as a file ----------------------------------------------------------------------------------------------------

    def read(self, size: int = -1, /) -> bytes | memoryview:
        """The next bytes: ``size`` of them or a piece, whatever is more. They are the pages themselves, not a copy."""
        stop = self._length if size < 0 else min(self._length, self._position + max(size, self._piece))
        if self._pages is None or stop <= self._position:
            return b""
        piece = memoryview(self._pages)[self._position : stop]
        self._position = stop
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Goes to a place, as files do."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        return self._position

    def tell(self) -> int:
        """Where it is."""
        return self._position

    def release(self) -> None:
        """Gives the memory back: nobody reads it any more."""
        if self._pages is not None:
            with suppress(BufferError):
                self._pages.close()
        self._pages, self._length, self._position = None, 0, 0
