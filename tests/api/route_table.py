"""Every route there is, read from the route tables themselves: what walks over them finds a new one by itself."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from distsql import api
from distsql.api.routes import find_route

# Handlers say in their docstrings where they are; an upload's is wherever its POST said.
_PATH: Final = re.compile(r"(/v2/[^`\[?\s]*|<location>)")
_LOCATION: Final = "/v2/<name>/blobs/uploads/<uuid>"
_METHOD: Final = re.compile(r"[A-Z]+\Z")


class Route(NamedTuple):
    """A method and where it applies, such as ``/v2/<name>/tags/list``."""

    method: str
    template: str
    handler: Callable[..., Any]

    def __str__(self) -> str:
        return f"{self.method} {self.template}"

    @property
    def places(self) -> list[str]:
        """What stands in the angle brackets, in order."""
        return re.findall(r"<([^>]*)>", self.template)

    def fill(self, *values: str) -> str:
        """The path with these values, as they are."""
        pieces = re.split(r"<[^>]*>", self.template)
        return pieces[0] + "".join(value + piece for value, piece in zip(values, pieces[1:], strict=True))


def list_routes() -> list[Route]:
    """Each once, in the order of their templates; fails for a handler that doesn't say where it is."""
    found = {
        Route(method, template, handler)
        for module in pkgutil.walk_packages(api.__path__, f"{api.__name__}.")
        if module.name.endswith(".routes")
        for methods in _tables(vars(importlib.import_module(module.name)).values())
        for method, handler in methods.items()
        for template in _templates(handler)
    }
    return sorted(found, key=str)


def _tables(values: Iterable[Any]) -> Iterator[Mapping[str, Callable[..., Any]]]:
    """Mappings of methods to handlers, however deep they are in other mappings."""
    for value in values:
        if not isinstance(value, Mapping) or not value:
            continue
        if all(isinstance(key, str) and _METHOD.match(key) and callable(each) for key, each in value.items()):
            yield value
        else:
            yield from _tables(value.values())


def _templates(handler: Callable[..., Any]) -> set[str]:
    found = {path.replace("<location>", _LOCATION) for path in _PATH.findall(inspect.getdoc(handler) or "")}
    assert found, f"{handler.__qualname__} has to say its path in its docstring: ``GET /v2/<name>/...``"
    for template in found:
        path = re.sub(r"<[^>]*>", "x", template)
        route = find_route(path.encode())
        assert route, f"{handler.__qualname__} says that it is at {template}, where there is nothing"
        assert handler in route[0].values(), f"{handler.__qualname__} is not at {template}, as it says"
    return found
