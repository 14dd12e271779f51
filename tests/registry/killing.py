"""A process that ends in the middle of its work, as the statements and calls of a `Backend` see it."""

from __future__ import annotations

from distsql.registry.context import Backend


class Killed(Exception):
    """As if the process ended here."""


def kill_at(backend: Backend, statement: str) -> None:
    """Ends the work of the schema's owner when it has run this statement."""

    def strike(name: str, *, seconds: float, round_trips: int) -> None:
        del seconds, round_trips
        if name == statement:
            raise Killed

    backend.everything.observe = strike


def live(backend: Backend) -> None:
    """Nothing is ended any more."""
    backend.everything.observe = lambda name, *, seconds, round_trips: None
