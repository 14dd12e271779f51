"""What a byte store promises. Written so that a local folder and an object store can both keep it.

An object is written once and never changes. There is no rename, no append to a finished object and no listing by
prefix that anything depends on. The catalogue remembers keys; a key is never used twice, so that an object which is
being deleted can never be a newer one. A key that the store can't have made names nothing.

The life of an object: ``begin`` chooses its key, ``writer`` adds bytes (as often as wanted, from any process, by means
of the `Staged` value that the catalogue keeps), whose ``complete`` makes it readable without copying it, and gives the
key that it has from then on. ``abort`` forgets it instead.

Where locks reach every process that uses the store (``exclusive``), an open writer shuts all others out. An object
store has no such locks. There the catalogue decides, by comparing and swapping the value that it keeps: a writer's
owner has it remember ``claim(staged)`` before entering, which outdates everybody else's value; what ``flush`` gives
before going on; and what ``seal`` gives before ``complete``. Of several writers at once each makes things of its own
names, so one whose value is outdated harms nothing of what the newest value names, however late its requests arrive.

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
    added: an object may be completed long after. ``staged_key`` is the key of the `Staged` value that it came from,
    when that is another one: as long as a row names either of them, the object is no orphan.

    In a store that is not ``exclusive`` what is flushed of a small object may be called complete, and what an
    unfinished one consists of comes in several of these, each of which can be aborted by its key.
    """

    key: str
    length: int
    modified_at: datetime
    complete: bool
    staged_key: str = ""


class StagedWriter(Protocol):
    """Adds bytes behind ``staged.length``. One at a time: entering a second one on the key is `UploadBusyError`.

    Entering shuts others out and changes nothing. Only then look whether ``staged`` is still the catalogue's newest
    value, unless ``is_newest`` says so: adding bytes overwrites or cuts off whatever is past ``staged.length``, and
    takes a completed object back, at the first ``write`` or as late as ``flush``. Entering is `BytesMissingError` when
    there are fewer than ``staged.length`` bytes.

    One call at a time; after one that failed or was cancelled it takes no more (`StoreUnavailableError`): a new writer
    goes on from the last flush.

    Of a store that is not ``exclusive``: a second one is `UploadBusyError` in the same process only, bytes that are
    missing may be told as late as the first ``write`` or ``complete``, and after ``flush`` it takes no more bytes
    (`StoreUnavailableError`): claim what it gave, and go on with a new writer.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets go of the object. What was not flushed may be lost; what was flushed stays."""

    @property
    def is_newest(self) -> bool:
        """Whether the store shows that nobody has added bytes to ``staged``, or completed it; false if it can't tell.

        For who has entered and written nothing yet.
        """

    async def write(self, *data: Buffer, observe: Observer | None = None) -> None:
        """Adds the pieces in their order. None of them is read any more once this returns or raises.

        ``observe`` is called with each once, in the thread that writes where there is one: so hashing costs no thread
        switch of its own, and each piece is still in the processor's cache when it is written. What goes wrong with the
        data may also be raised by a later ``write`` or ``flush``.
        """

    async def flush(self) -> Staged:
        """Makes everything written durable (it survives power loss) and gives the value to go on with.

        `BytesMissingError` when the object was aborted since bytes were added (where the store can tell).
        """

    @property
    def checkpoint_due(self) -> bool:
        """Whether the catalogue should remember what there is before more bytes are written. Never if ``exclusive``."""

    async def checkpoint(self) -> Staged:
        """What is durable just now, for the catalogue to remember in the middle of a long stream.

        It may be less than what was written. Once it is remembered this writer goes on; otherwise it must be closed.
        """

    async def seal(self) -> Staged | None:
        """Flushes in the form in which the object can be completed; to be remembered before ``complete`` is called.

        None when ``complete`` needs no such preparation, as always if ``exclusive``.
        """

    async def complete(self) -> Staged:
        """Flushes, and makes the object readable without a copy, under the key of the value that it gives.

        What is past the bytes that this writer knows of is cut off. Doing it again is harmless. `BytesMissingError`
        when the store has fewer bytes, or has completed the object at another length. Adding bytes afterwards (the
        commit that should have named it failed) takes the object back into its unfinished state; a store that is not
        ``exclusive`` leaves it where it is, and begins another one with its bytes.
        """


class ByteStore(Protocol):
    """Bytes by key. One instance serves any number of tasks; any number of processes may share the same store."""

    @property
    def url(self) -> str:
        """The store's address without any secret: for messages and for the rows that name it."""

    @property
    def minimum_chunk(self) -> int:
        """The smallest piece, in bytes, that ``writer`` takes well except as the last one; 0 when any size will do."""

    @property
    def exclusive(self) -> bool:
        """Whether an open writer shuts out those of all other processes. If not, the catalogue has to: see above."""

    async def open(self) -> None:
        """Makes the store ready and checks that it can be written to."""

    async def close(self) -> None:
        """Lets go of everything."""

    async def begin(self) -> Staged:
        """A new object of no bytes under a key that was never used."""

    async def claim(self, staged: Staged) -> Staged:
        """The value for the next writer, once the catalogue has remembered it instead of ``staged``.

        ``staged`` itself if the store is ``exclusive``. `UploadBusyError` while a writer is open in this process.
        """

    def writer(self, staged: Staged) -> StagedWriter:
        """An async context manager that adds bytes behind ``staged.length``."""

    def staged_stream(self, staged: Staged) -> AsyncIterator[bytes]:
        """The bytes written so far, ``staged.length`` of them: to hash what another process wrote.

        Works beside a writer, and on a completed object as well. Fails before the first piece if there are fewer. A
        store that is not ``exclusive`` may need the value that ``complete`` gave: else it raises `BytesMissingError`.
        """

    async def abort(self, staged: Staged) -> None:
        """Removes an unfinished (or just completed) object and all its parts; nothing there is no error.

        It works beside an open writer too, whose next ``flush`` of new bytes is then `BytesMissingError` where the
        store can tell.
        """

    async def settle(self, staged: Staged) -> None:
        """Removes what was needed only to go on with a completed object: once the catalogue has its key for good.

        Doing without leaves orphans, which a walk finds.
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
