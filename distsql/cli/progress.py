"""Long work shows how far it is: on a terminal, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextmanager
def progress() -> Iterator[Callable[[str, int], None]]:
    """Gives a function that counts: what was done, and how many of it."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        tasks = {}

        def count(what: str, number: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=None)
            shown.advance(tasks[what], number)

        yield count
