"""Running hashes of uploads that this process wrote to last.

Only a saving: a session that another process adds to, or that fell out of here, is hashed again from its bytes. Where
another one only ends it, the catalogue has the digest of what there is; nothing of a hash's state is ever stored.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final
from uuid import UUID

from distsql.oci.digest import new_hash

if TYPE_CHECKING:
    from hashlib import _Hash

SESSIONS: Final = 1024


class RunningHashes:
    """The hash of the first ``offset`` bytes of an upload, by its UUID."""

    def __init__(self) -> None:
        self._known: OrderedDict[UUID, tuple[int, _Hash]] = OrderedDict()

    def take(self, uuid: UUID, *, offset: int, algorithm: str) -> _Hash | None:
        """The running hash up to the offset, to go on with; None when it isn't known here. The caller owns it then."""
        if offset == 0:
            return new_hash(algorithm)
        known = self._known.pop(uuid, None)
        return known[1] if known and known[0] == offset else None

    def keep(self, uuid: UUID, hasher: _Hash, *, offset: int) -> None:
        """Remembers a running hash between two requests."""
        self._known[uuid] = (offset, hasher)
        if len(self._known) > SESSIONS:
            self._known.popitem(last=False)
