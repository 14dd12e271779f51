"""Files that are sent by threads, without their bytes passing through the event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Executor
from typing import Final

# In one go: then others have their turn, of those who wait for one of the threads.
_AT_ONCE: Final = 4 * 1024**2
_BUFFER: Final = 256 * 1024

_of_thread = threading.local()


class Transfer:
    """The head of an answer and, behind it, a part of a file."""

    def __init__(self, path: str, head: bytes, *, start: int, length: int) -> None:
        self._path = path
        self._head = head
        self._at = start
        self._end = start + length
        self._file = -1

    def go_on(self, connection: int, *, is_near: bool) -> bool:
        """Sends what ``connection``, a socket that doesn't block, takes of it. Whether that was everything.

        For a thread, since the disk may have to be waited for. `OSError` when the client has gone, or the file ends.
        """
        if self._file < 0:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        send = self._copy if is_near else self._pass_on
        pause = min(self._end, self._at + _AT_ONCE)
        try:
            while self._head:
                self._head = self._head[os.write(connection, self._head) :]
            while self._at < pause:
                sent = send(connection, pause - self._at)
                if not sent:
                    raise OSError(f"{self._path} ends before its length")
                self._at += sent
        except BlockingIOError:
            return False
        return self._at == self._end

    def _pass_on(self, connection: int, length: int) -> int:
        """Within the kernel: half of the CPU, where a network card takes the bytes."""
        return os.sendfile(connection, self._file, self._at, length)

    def _copy(self, connection: int, length: int) -> int:
        """Through memory that is in the processor's cache: who reads on the same machine takes half of the CPU then."""
        try:
            buffer: memoryview = _of_thread.buffer
        except AttributeError:
            buffer = _of_thread.buffer = memoryview(bytearray(_BUFFER))
        read = os.preadv(self._file, [buffer[:length]], self._at)
        return os.write(connection, buffer[:read]) if read else 0

    def close(self) -> None:
        """Once no thread is at it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


async def send(transfer: Transfer, connection: int, *, threads: Executor, is_near: bool, patience_s: float) -> None:
    """Sends all of it, and closes both. ``is_near``: whether the client is on this machine.

    `ConnectionError` when the client has gone, or takes nothing for so long; `OSError` when the file can't be read.
    """
    work = None
    try:
        while True:
            work = threads.submit(transfer.go_on, connection, is_near=is_near)
            if await asyncio.wrap_future(work):
                return
            await _writable(connection, patience_s)
    except TimeoutError as error:
        raise ConnectionResetError("The client takes nothing any more") from error
    finally:

        def close(*_: object) -> None:
            os.close(connection)
            transfer.close()

        if work is None:
            close()
        else:  # who cancels this doesn't wait for the thread, which still needs them
            work.add_done_callback(close)


async def _writable(connection: int, patience_s: float) -> None:
    loop = asyncio.get_running_loop()
    writable = asyncio.Event()
    loop.add_writer(connection, writable.set)
    try:
        async with asyncio.timeout(patience_s):
            await writable.wait()
    finally:
        loop.remove_writer(connection)
