"""How the catalogue's values become Python's and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.array import ListBinaryDumper
from psycopg.types.numeric import Int8BinaryDumper
from sqlalchemy import LargeBinary
from sqlalchemy.types import TypeDecorator

from distsql.oci.digest import Digest

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.abc import Buffer
    from sqlalchemy import Dialect


class DigestType(TypeDecorator[Digest]):
    """A digest as ``bytea``: one byte for the algorithm, then the raw hash."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Digest | None, dialect: Dialect) -> bytes | None:
        """For migrations and tests that run through SQLAlchemy; statements are dumped by `DigestDumper`."""
        del dialect
        return None if value is None else value.packed

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Digest | None:
        """A digest again."""
        del dialect
        return None if value is None else Digest(bytes(value))


class DigestDumper(Dumper):
    """Passes a `Digest` to PostgreSQL as it is stored."""

    format = Format.BINARY
    oid = 17  # bytea

    def dump(self, obj: Digest) -> Buffer:
        """The packed form."""
        return obj.packed


def register(connection: AsyncConnection[tuple[object, ...]]) -> None:
    """Teaches a connection the catalogue's types."""
    connection.adapters.register_dumper(Digest, DigestDumper)
    # Otherwise the size of a number picks its type, and a statement is prepared again for each combination of sizes.
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    # Arrays of digests, like digests, have a binary form only.
    connection.adapters.register_dumper(list, ListBinaryDumper)
