"""How the catalogue's values become Python's and back."""

from __future__ import annotations

import struct
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.array import ListBinaryDumper
from psycopg.types.numeric import Int8BinaryDumper
from sqlalchemy import BigInteger, LargeBinary, Text
from sqlalchemy.types import TypeDecorator

from distsql.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg import AsyncConnection
    from psycopg.abc import Buffer
    from sqlalchemy import Dialect
    from sqlalchemy.types import TypeEngine


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


class _Kind(NamedTuple):
    """How values of a type go into an array: the type's number, and each value's binary form."""

    oid: int
    encode: Callable[[Any], bytes]


# By what SQLAlchemy casts them to: an array has to be of exactly that.
_KINDS: Final[dict[type[TypeEngine[Any]], _Kind]] = {
    Text: _Kind(25, str.encode),
    DigestType: _Kind(17, attrgetter("packed")),
    BigInteger: _Kind(20, struct.Struct("!q").pack),
}
_ARRAY: Final = struct.Struct("!iiIii")  # dimensions, whether there are nulls, the type, length, the first's number
_LENGTH: Final = struct.Struct("!i")
_NULL: Final = _LENGTH.pack(-1)


class Array(NamedTuple):
    """Values of one type for an array parameter. A list would do as well, but takes ten times as long to be dumped."""

    type: type[TypeEngine[Any]]
    values: Sequence[Any]


class ArrayDumper(Dumper):
    """Passes an `Array` to PostgreSQL in its binary form."""

    format = Format.BINARY
    oid = 0  # the statement's cast tells

    def dump(self, obj: Array) -> Buffer:
        """All of it."""
        oid, encode = _KINDS[obj.type]
        pieces = [_ARRAY.pack(1, None in obj.values, oid, len(obj.values), 1)]
        for value in obj.values:
            if value is None:
                pieces.append(_NULL)
            else:
                encoded = encode(value)
                pieces += (_LENGTH.pack(len(encoded)), encoded)
        return b"".join(pieces)


def register(connection: AsyncConnection[tuple[object, ...]]) -> None:
    """Teaches a connection the catalogue's types."""
    connection.adapters.register_dumper(Digest, DigestDumper)
    connection.adapters.register_dumper(Array, ArrayDumper)
    # Otherwise the size of a number picks its type, and a statement is prepared again for each combination of sizes.
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    # Arrays of digests, like digests, have a binary form only.
    connection.adapters.register_dumper(list, ListBinaryDumper)
