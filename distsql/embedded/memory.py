"""How much of the machine's memory the private PostgreSQL takes for its buffers."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

MIB: Final = 1024**2
LEAST: Final = 128 * MIB
"""What PostgreSQL takes by itself."""
MOST: Final = 512 * MIB
"""The indexes that pushes write into take as much for two hundred thousand manifests; of each GiB 30 MiB go at once."""
_SHARE: Final = 8
# Of a container, in the two versions of control groups. Without a limit the one says "max", the other a huge number.
_LIMITS: Final = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


def buffers() -> int:
    """Bytes: an eighth of the memory, for the server, its byte store's file cache and others live here too."""
    return max(LEAST, min(MOST, find_memory() // _SHARE)) // MIB * MIB


def find_memory(root: Path = Path("/")) -> int:
    """Bytes of the machine, or what its container may take of them; 0 where nobody tells."""
    found = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on Windows
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in _LIMITS:
        with contextlib.suppress(OSError, ValueError):
            found.append(int((root / name).read_text()))
    return min((size for size in found if size > 0), default=0)
