"""An operation: how one round of it is made, how a server is made ready for it, and how it is seen to do it right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.load import Load, Pace
from benchmarks.servers import Server


def _nothing(_: Server) -> None:
    """Our own clients look at every answer themselves."""


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    load: Callable[[Server, Pace], Load]
    check: Callable[[Server], None] = _nothing
    """Once, before everything."""
    prepare: Callable[[Server], None] = _nothing
    """Before each round, and not measured."""
    large: int = 0
    """Bytes of each body, when these and not the requests are counted."""
    leaves: int = 0
    """Files at least that large are left behind by a round, and removed."""
    connections: int = 0
    """If not as many as everything else."""
    with_bare: bool = False
    """Measured with a registry that does nothing, too: it is the client that takes most of the time."""
    bar: float = 0
    """So many times the peer's requests a second, where everybody logs in; 0 where nothing was promised."""
    open_bar: float = 0
    """The same where nobody does."""
