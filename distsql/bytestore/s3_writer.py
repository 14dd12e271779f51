"""Writing one object of an object store: full parts at once, and a tail of what is too small for one."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from distsql.bytestore import s3_reader as reader
from distsql.bytestore.contract import Buffer, Observer, Staged
from distsql.bytestore.s3_bodies import Body
from distsql.bytestore.s3_client import S3Client
from distsql.bytestore.s3_layout import PartSizes, new_object, new_tail, stem_of
from distsql.bytestore.s3_parts import PartUploader, complete_parts, copy_parts
from distsql.bytestore.s3_state import Piece, State
from distsql.errors import StoreUnavailableError, UploadBusyError

# Less than this is hashed and copied where it is: a thread switch costs more.
_INLINE_BYTES: Final = 64 * 1024

# How many numbers are left when the catalogue should remember what there is: enough for the parts that are in flight.
_SPARE: Final = 8


class S3Writer:
    """The `StagedWriter` of an `S3Store`. ``busy`` are the stems that this process writes to just now."""

    is_newest = False

    def __init__(self, client: S3Client, sizes: PartSizes, staged: Staged, busy: set[str]) -> None:
        self._client = client
        self._sizes = sizes
        self._staged = staged
        self._busy = busy
        self._stem = ""
        self._state = State()
        self._parts = PartUploader(client, sizes, self._state, stem="")
        self._body: Body | None = None  # in hand: what makes no part yet
        self._open = False
        self._intact = True
        self._begun = False
        self._ended = False  # flushed or completed: what comes next is another writer's

    async def __aenter__(self) -> Self:
        stem, state = stem_of(self._staged.key), State.from_json(self._staged.state)
        if stem is None or state.length != self._staged.length:
            raise self._client.missing(self._staged.key)
        if stem in self._busy:
            raise UploadBusyError("another request is writing to this upload right now: try again when it is done")
        self._busy.add(stem)
        self._stem, self._state, self._open = stem, state, True
        self._parts = PartUploader(self._client, self._sizes, state, stem=stem)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        self._let_go()
        try:
            await self._parts.cancel()
        finally:
            self._busy.discard(self._stem)

    # -- adding -------------------------------------------------------------------------------------------------------

    async def write(self, *data: Buffer, observe: Observer | None = None) -> None:
        self._check_usable()
        if self._ended:
            raise StoreUnavailableError("this writer has flushed: claim what it gave, and go on with a new writer")
        views = [memoryview(piece).cast("B") for piece in data if len(piece)]
        if not views:
            return
        try:
            self._intact = False
            if not self._begun:
                await self._begin()
            if observe is not None:
                await self._show(observe, views)
            for view in views:
                await self._add(view)
            self._intact = True
        finally:
            for view in views:
                view.release()

    async def _show(self, observe: Observer, views: list[memoryview]) -> None:
        if sum(map(len, views)) <= _INLINE_BYTES:
            for view in views:
                observe(view)
        else:
            await self._client.hashing.run(_show_all, observe, views)

    async def _add(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            if self._body is None:
                self._body = Body(self._parts.next_size)
            step = min(len(view) - done, self._body.room)
            with view[done : done + step] as slice_of_it:
                self._body.add(slice_of_it)
            done += step
            if not self._body.room:
                await self._send_part()

    async def _send_part(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            await self._parts.add(body)

    def _let_go(self) -> None:
        if self._body is not None:
            self._body.release()
            self._body = None

    async def _begin(self) -> None:
        """Takes what can't be added to into hand: the tail, and an object that was completed already."""
        state = self._state
        if state.stale:
            await self._client.delete(state.stale)  # this value is the catalogue's, so nobody needs the earlier ones
            state = replace(state, stale=())
        if state.sealed and state.parts:
            object_key = await complete_parts(self._client, state.parts)
            state = replace(state, parts=None, tail=Piece(object_key, state.parts.bytes), sealed=False)
        self._state, old_tail = replace(state, tail=None), state.tail
        self._parts = PartUploader(self._client, self._sizes, self._state, stem=self._stem)
        if old_tail is not None:
            self._state = replace(self._state, stale=(old_tail.object,))
            start = 0
            if state.parts is None and old_tail.bytes >= self._sizes.smallest:
                start = await copy_parts(self._parts, old_tail)
            with memoryview(await reader.read(self._client, old_tail.object, start, old_tail.bytes)) as tail:
                await self._add(tail)
        self._begun = True

    # -- making durable -----------------------------------------------------------------------------------------------

    @property
    def checkpoint_due(self) -> bool:
        """Whether the part numbers of this writer are nearly used up."""
        return self._parts.numbers_left <= _SPARE

    async def checkpoint(self) -> Staged:
        self._check_usable()
        self._intact = False
        await self._parts.settle()
        # What is in hand is not part of it, nor is the tail that it began with when no part has it yet.
        if self._parts.added:
            state = self._parts.remembered(replace(self._state, tail=None)).claimed()
            self._state = replace(state, opened=True, littered=self._state.littered)
            self._staged = Staged(self._stem, self._state.length, self._state.to_json())
            self._parts.reserve(self._state)
        self._intact = True
        return self._staged

    async def flush(self) -> Staged:
        self._check_usable()
        if not self._begun:
            return self._staged
        self._intact = False
        await self._parts.settle()
        state = self._parts.remembered(self._state)
        if self._body is not None:
            key = new_tail(self._stem) if state.parts else new_object(self._stem)
            await self._client.put(key, self._body)
            state = replace(state, tail=Piece(key, len(self._body)))
        return self._give(Staged(self._stem, state.length, replace(state, opened=False).to_json()), state)

    async def seal(self) -> Staged | None:
        self._check_usable()
        if self._state.sealed and not self._begun:
            return None
        if self._state.parts is None and not self._parts.any:
            return None  # an object of its own: completing it changes nothing that there is
        if not self._begun:
            await self._begin()
        self._intact = False
        await self._send_part()
        await self._parts.settle()
        state = replace(self._parts.remembered(self._state), sealed=True, opened=False)
        return self._give(Staged(self._stem, state.length, state.to_json()), state)

    async def complete(self) -> Staged:
        await self.seal()
        self._check_usable()
        state = self._state
        if state.sealed and state.parts:
            key = await complete_parts(self._client, state.parts)
        elif state.tail is not None and not self._begun:
            key = state.tail.object
            if await self._client.length(key) != state.tail.bytes:
                raise self._client.missing(key)
        else:
            key = new_object(self._stem)
            body = self._body or b""
            await self._client.put(key, body)
            state = replace(state, tail=Piece(key, len(body)))
        length = state.length
        state = replace(state, parts=None, tail=Piece(key, length), sealed=False, opened=False)
        return self._give(Staged(key, length, state.to_json()), state)

    def _give(self, staged: Staged, state: State) -> Staged:
        self._staged, self._state = staged, state
        self._parts = PartUploader(self._client, self._sizes, state, stem=self._stem)
        self._let_go()
        self._intact, self._begun, self._ended = True, False, True
        return staged

    def _check_usable(self) -> None:
        if not self._open:
            raise StoreUnavailableError("this writer is not open: enter it with `async with`")
        if not self._intact:
            raise StoreUnavailableError("an earlier write failed: go on from the last flush, with a new writer")


def _show_all(observe: Observer, views: list[memoryview]) -> None:
    for view in views:
        observe(view)
