"""A terminal in which a command runs in this process: what it shows there, and what it prints."""

from __future__ import annotations

import io
import os
import re
import threading
from contextlib import redirect_stderr, redirect_stdout

import pytest

from distsql.cli import main


def run_on_a_terminal(*arguments: str) -> tuple[str, str]:
    """What the command prints, and what it shows on stderr meanwhile, without its colours."""
    master, slave = os.openpty()
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # how Linux says that nobody writes any more
                return
            if not piece:
                return
            shown.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    printed = io.StringIO()
    try:
        with (
            os.fdopen(slave, "w") as terminal,
            redirect_stdout(printed),
            redirect_stderr(terminal),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setenv("TERM", "xterm")
            main.main(list(arguments), standalone_mode=False)
    finally:
        reader.join(30)
        os.close(master)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(shown).decode())
    return printed.getvalue(), text
