"""Scopes of the token protocol: ``repository:acme/web:pull,push``, several of them with spaces between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from distsql.errors import NameInvalidError
from distsql.oci.names import RepositoryName
from distsql.registry.authorities import ALL_ACTIONS
from distsql.registry.tokens import Access
from distsql.values import Action

CATALOG: Final = "registry:catalog:*"
_MAX_SCOPES: Final = 50
_NONE: Final[frozenset[Action]] = frozenset()


@dataclass(frozen=True, slots=True)
class RequestedScopes:
    """What a client asks for. What can't be read or doesn't exist here is not granted, and no error."""

    actions: dict[RepositoryName, frozenset[Action]] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    """How the client writes a name, by its full one."""
    catalog: bool = False


def parse_scopes(texts: Iterable[str], full_name: Callable[[str], str]) -> RequestedScopes:
    """Reads scopes, of which ``full_name`` knows what they mean; of more than 50 the rest is left out."""
    actions: dict[RepositoryName, frozenset[Action]] = {}
    written: dict[str, str] = {}
    catalog = False
    for scope in [scope for text in texts for scope in text.split()][:_MAX_SCOPES]:
        kind, _, rest = scope.partition(":")
        text, _, wanted = rest.rpartition(":")
        if kind == "registry" and text == "catalog":
            catalog = True
        elif kind.partition("(")[0] == "repository":
            try:
                name = RepositoryName.parse(full_name(text))
            except NameInvalidError:
                continue
            actions[name] = actions.get(name, _NONE) | _parse_actions(wanted)
            written[str(name)] = text
    return RequestedScopes(actions, written, catalog)


def _parse_actions(text: str) -> frozenset[Action]:
    """Known ones; ``*`` is all of them."""
    names = text.split(",")
    return ALL_ACTIONS if "*" in names else frozenset(action for action in Action if action in names)


def write_scopes(accesses: Iterable[Access], *, catalog: bool, written: dict[str, str]) -> str:
    """What was granted, with names as the client writes them."""
    scopes = [
        f"repository:{written.get(str(access.name), str(access.name))}:{','.join(sorted(access.shown))}"
        for access in accesses
    ]
    return " ".join([*scopes, CATALOG] if catalog else scopes)


def repository_scope(name: str, *actions: Action) -> str:
    """A scope to ask for."""
    return f"repository:{name}:{','.join(actions)}"
