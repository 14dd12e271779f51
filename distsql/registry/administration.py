"""What whoever runs the registry does, over all tenants: by the role that owns the tables."""

from __future__ import annotations

from distsql.sql.database import Database
from distsql.values import Caller


class Administration:
    """A service of the owner's. What it changes is in the audit as the caller's."""

    __slots__ = ("_caller", "_database")

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database = database
        self._caller = caller

    @property
    def database(self) -> Database:
        """The catalogue, all tenants'."""
        return self._database
