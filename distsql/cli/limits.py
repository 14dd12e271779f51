"""Options that set switches and limits of tenants and repositories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from distsql.errors import SettingsError
from distsql.settings import size, switch

Command = Callable[..., Any]

_ON_OFF: Final = click.Choice(["on", "off"])
_NO_LIMIT: Final = "none"
_AS_TENANT: Final = "tenant"
_DEFAULT_STORE: Final = "default"
# By its own name the option would be the server's setting.
_FIELDS: Final = {"unwritable": "read_only"}
_SWITCHES: Final = ("read_only", "deletable", "sparse")
_PARSERS: Final[Mapping[str, Callable[[str], int]]] = {"size": size, "number": int}


class _Limit(click.ParamType[str]):
    """A size or a number, or ``none``."""

    def __init__(self, kind: str) -> None:
        self.name = kind

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text itself, if it can be read: what isn't given is None, and no limit is too."""
        if value != _NO_LIMIT:
            try:
                if not 0 <= _PARSERS[self.name](value) < 2**63:
                    raise ValueError("write a number of 0 or more")
            except ValueError as error:
                self.fail(f"{value!r}: {error}, or none", param, ctx)
        return value

    def read(self, value: str) -> int | None:
        """The limit that the text means."""
        return None if value == _NO_LIMIT else _PARSERS[self.name](value)


_LIMITS: Final[Mapping[str, _Limit]] = {kind: _Limit(kind) for kind in _PARSERS}


def limit(kind: str) -> click.ParamType[str]:
    """The type of an option that is a ``size`` or a ``number``, or ``none``."""
    return _LIMITS[kind]


def settings_of(what: str) -> Callable[[Command], Command]:
    """Adds the options that tenants and repositories have in common."""

    def decorate(command: Command) -> Command:
        for option in reversed(
            (
                click.option(
                    "--read-only", "unwritable", type=_ON_OFF, help=f"Whether nothing may be written to the {what}."
                ),
                click.option("--delete", "deletable", type=_ON_OFF, help="Whether content may be deleted."),
                click.option("--sparse", type=_ON_OFF, help="Whether children and layers may be absent."),
                click.option(
                    "--immutable-tags",
                    metavar="PATTERNS",
                    help="Tags that never move, such as 'v*,release-?'; or none.",
                ),
                click.option(
                    "--untagged",
                    type=click.Choice(["keep", "collect"] if what == "tenant" else ["keep", "collect", _AS_TENANT]),
                    help="What becomes of manifests without tag, index and subject.",
                ),
            )
        ):
            command = option(command)
        return command

    return decorate


def given_settings(options: Mapping[str, object]) -> dict[str, object]:
    """Those of the options that were given, as the settings that they mean. `SettingsError` when there is none."""
    given = {_FIELDS.get(name, name): str(value) for name, value in options.items() if value is not None}
    if not given:
        raise SettingsError("Nothing to set: give at least one option, see --help")
    return {name: _meaning(name, text) for name, text in given.items()}


def _meaning(name: str, text: str) -> object:
    if name == "untagged":
        return None if text == _AS_TENANT else text
    if name in _SWITCHES:
        return switch(text)
    if name == "immutable_tags":
        return [] if text == _NO_LIMIT else [pattern.strip() for pattern in text.split(",")]
    if name == "store":
        return None if text == _DEFAULT_STORE else text
    if name.endswith("_bytes"):
        return _LIMITS["size"].read(text)
    return _LIMITS["number"].read(text) if name.startswith("quota_") else text
