"""What one process knows of an account that counts: one object, which all that its holders have shown leads to."""

from __future__ import annotations

from distsql.registry.authorities import Account


class Standing:
    """An account as it was read, for as long as nothing is heard that could change it.

    Whoever has it needn't look it up again: with thousands of accounts each look at another place in memory is one at
    memory that no processor's cache has.
    """

    __slots__ = ("account", "counts", "ends", "used_at")

    def __init__(self, account: Account, *, ends: float) -> None:
        self.account = account
        self.counts = True
        """Until it is forgotten: then it has to be read again, whatever was the reason."""
        self.ends = ends
        """When it counts no more at the latest, in seconds since 1970."""
        self.used_at = 0.0
        """When it was last used; 0 when that is written down."""

    def end(self) -> None:
        """It is forgotten."""
        self.counts = False
