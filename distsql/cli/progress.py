"""Long work shows how far it is: on a terminal, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextmanager
def progress(totals: Mapping[str, int] | None = None) -> Iterator[Callable[[str, int], None]]:
    """Gives a function that counts: what was done, and how many of it; with a bar for what ``totals`` has by then."""
    totals = {} if totals is None else totals
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    # Elsewhere nothing would be seen but the empty line with which it ends, of which cron sends a letter.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        tasks = {}

        def count(what: str, number: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=totals.get(what))
            shown.advance(tasks[what], number)

        yield count
