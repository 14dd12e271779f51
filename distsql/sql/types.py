"""How the catalogue's values become Python's and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import LargeBinary
from sqlalchemy.types import TypeDecorator

from distsql.oci.digest import Digest

if TYPE_CHECKING:
    from sqlalchemy import Dialect


class DigestType(TypeDecorator[Digest]):
    """A digest as ``bytea``: one byte for the algorithm, then the raw hash."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Digest | None, dialect: Dialect) -> bytes | None:
        """For migrations and tests that run through SQLAlchemy; statements are packed by `distsql.sql.parameters`."""
        del dialect
        return None if value is None else value.packed

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Digest | None:
        """A digest again."""
        del dialect
        return None if value is None else Digest(bytes(value))
