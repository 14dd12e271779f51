"""What a byte store promises. Written so that a local folder and an object store can both keep it.

An object is written once and never changes. There is no rename, no append to a finished object and no listing by
prefix that anything depends on. The catalogue remembers keys; a key is never used twice, so that an object which is
being deleted can never be a newer one. A key that the store can't have made names nothing.

The life of an object: ``begin`` chooses its key, ``writer`` adds bytes (as often as wanted, from any process, by means
of the `Staged` value that the catalogue keeps), whose ``complete`` makes it readable under its key without copying it.
``abort`` forgets it instead.

Errors, all from `distsql.errors`: `StoreUnavailableError`, `StoreFullError`, `BytesMissingError`, `UploadBusyError`.
`StoreFullError` and `StoreUnavailableError` leave every `Staged` value good: go on from it when there is room again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Protocol, Self

Buffer = bytes | bytearray | memoryview

# Is shown data on their way into the store, such as a hash's ``update``. It must not keep them.
Observer = Callable[[Buffer], object]

NO_STATE: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Staged:
    """An object that is being written: its key, the bytes that are durable so far, and the store's own state."""

    key: str
    length: int = 0
    state: Mapping[str, object] = field(default_factory=lambda: NO_STATE)  # a factory: Python 3.11 takes it for mutable


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a walk over the store finds. ``complete`` is false for an object that is still being written.

    ``length`` of such an object may count bytes that no ``flush`` acknowledged. ``modified_at`` is when bytes were last
    added: an object may be completed long after.
    """

    key: str
    length: int
    modified_at: datetime
    complete: bool


class StagedWriter(Protocol):
    """Adds bytes behind ``staged.length``. One at a time: entering a second one on the key is `UploadBusyError`.

    Entering shuts others out and changes nothing. Only then look whether ``staged`` is still the catalogue's newest
    value: adding bytes overwrites or cuts off whatever is past ``staged.length``, and takes a completed object back, at
    the first ``write`` or as late as ``flush``. Entering is `BytesMissingError` when there are fewer than
    ``staged.length`` bytes.

    One call at a time; after one that failed or was cancelled it takes no more (`StoreUnavailableError`): a new writer
    goes on from the last flush.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets go of the object. What was not flushed may be lost; what was flushed stays."""

    async def write(self, *data: Buffer, observe: Observer | None = None) -> None:
        """Adds the pieces in their order. None of them is read any more once this returns or raises.

        ``observe`` is called with each once, in the thread that writes where there is one: so hashing costs no thread
        switch of its own, and each piece is still in the processor's cache when it is written. What goes wrong with the
        data may also be raised by a later ``write`` or ``flush``.
        """

    async def flush(self) -> Staged:
        """Makes everything written durable (it survives power loss) and gives the value to go on with.

        `BytesMissingError` when the object was aborted since bytes were added.
        """

    async def complete(self) -> Staged:
        """Flushes, and makes the object readable under its key without a copy, while nobody else can write to it.

        What is past the bytes that this writer knows of is cut off. Doing it again is harmless. `BytesMissingError`
        when the store has fewer bytes, or has completed the object at another length. Adding bytes afterwards takes the
        object back into its unfinished state where the store can (the commit that should have named it failed), else
        raises `BytesMissingError`.
        """


class ByteStore(Protocol):
    """Bytes by key. One instance serves any number of tasks; any number of processes may share the same store."""

    @property
    def url(self) -> str:
        """The store's address without any secret: for messages and for the rows that name it."""

    @property
    def minimum_chunk(self) -> int:
        """The smallest piece, in bytes, that ``writer`` takes well except as the last one; 0 when any size will do."""

    async def open(self) -> None:
        """Makes the store ready and checks that it can be written to."""

    async def close(self) -> None:
        """Lets go of everything."""

    async def begin(self) -> Staged:
        """A new object of no bytes under a key that was never used."""

    def writer(self, staged: Staged) -> StagedWriter:
        """An async context manager that adds bytes behind ``staged.length``."""

    def staged_stream(self, staged: Staged) -> AsyncIterator[bytes]:
        """The bytes written so far, ``staged.length`` of them: to hash what another process wrote.

        Works beside a writer, and on a completed object as well. Fails before the first piece if there are fewer.
        """

    async def abort(self, staged: Staged) -> None:
        """Removes an unfinished (or just completed) object and all its parts; nothing there is no error.

        It works beside an open writer too, whose next ``flush`` of new bytes is then `BytesMissingError`.
        """

    async def length(self, key: str) -> int | None:
        """The finished object's length in bytes, or None when there is none."""

    async def read(self, key: str, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop`` (exclusive) at once: for small pieces, the caller bounds them.

        ``0 <= start <= stop`` is the caller's promise; `BytesMissingError` when the object is absent or ends before
        ``stop``.
        """

    def stream(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes ``start`` to ``stop`` (exclusive) in pieces, in bounded memory; no piece is empty.

        Errors are those of ``read``; absent or too short is told before the first piece.
        """

    def local_path(self, key: str) -> Path | None:
        """The finished object's file, when it is one: the web server sends it without Python.

        None also when the object is absent: ``read`` and ``stream`` then raise the error that says so.
        """

    async def redirect_url(self, key: str, *, expires_s: int) -> str | None:
        """An address where a client gets the object from the store itself, or None."""

    async def delete(self, key: str) -> None:
        """Removes a finished object; nothing there is no error. The catalogue has forgotten it before."""

    def walk(self) -> AsyncIterator[StoredObject]:
        """Every object, finished or not, in no order: for verification and for finding orphans.

        One that is completed, taken back or removed meanwhile may come twice, or not at all.
        """
