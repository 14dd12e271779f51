"""distsql: a container registry whose truth is a relational catalogue in PostgreSQL."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from distsql.contract import Namespace

__version__ = version("distsql")


def connect(database_url: str, storage_url: str, *, actor: str = "library") -> AbstractAsyncContextManager[Namespace]:
    """The registry as a library: ``async with distsql.connect(database_url, storage_url) as namespace: ...``.

    ``actor`` is what audit and tag history remember. Raises `SchemaError` when the database was never migrated.
    """
    # Imported late: `import distsql` alone loads no database and no web layer.
    from distsql.app import connect as connect_

    return connect_(database_url, storage_url, actor=actor)


__all__ = ["__version__", "connect"]
