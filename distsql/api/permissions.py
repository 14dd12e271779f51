"""What each handler needs its caller to be allowed, told beside the handler: one that doesn't say so answers nobody."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, TypeVar

from distsql.values import Action


class Permission(enum.StrEnum):
    """What is needed for something that is about no single repository."""

    LOGIN = "login"
    """Any token that counts, also an anonymous one."""
    CATALOG = "catalog"
    """To be shown names: those that the caller may pull from."""


Need = Action | Permission
Handler = TypeVar("Handler", bound=Callable[..., Any])

_needs: Final[dict[Callable[..., Any], Need]] = {}


def needs(need: Need) -> Callable[[Handler], Handler]:
    """Says what a handler needs: an `Action` in the repository that is its first argument, or a `Permission`."""

    def declare(handler: Handler) -> Handler:
        _needs[handler] = need
        return handler

    return declare


def need_of(handler: Callable[..., Any]) -> Need:
    """What the handler needs; `KeyError` when it doesn't say."""
    return _needs[handler]
