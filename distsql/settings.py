"""Settings: one frozen object, read once. Flags win over the environment (``DISTSQL_*``), which wins over the file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from distsql.errors import SettingsError

PREFIX: Final = "DISTSQL_"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_DURATION: Final = re.compile(r"(\d{1,9})(ms|s|m|h|d)\Z", re.ASCII)
_DURATION_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE: Final = re.compile(r"(\d{1,15})(B|[kKMGT]B|[KMGT]iB)?\Z", re.ASCII)
_SIZE_UNITS: Final[dict[str, int]] = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letters in enumerate(("kK", "M", "G", "T"), 1) for letter in letters},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
}


def duration(text: str) -> timedelta:
    """Reads 30s, 15m, 36h, 7d (or 250ms)."""
    match = _DURATION.match(text)
    if not match:
        raise ValueError("write a duration as 30s, 15m, 36h or 7d")
    return timedelta(seconds=int(match[1]) * _DURATION_UNITS[match[2]])


def size(text: str) -> int:
    """Reads 500MB, 10GiB, or a number of bytes; gives bytes."""
    match = _SIZE.match(text)
    if not match:
        raise ValueError("write a size as 500MB, 10GiB or a number of bytes")
    unit: int = _SIZE_UNITS[match[2] or "B"]
    return int(match[1]) * unit


def switch(text: str) -> bool:
    """Reads on or off (true, false, yes, no, 1, 0)."""
    if text.lower() in {"on", "true", "yes", "1"}:
        return True
    if text.lower() in {"off", "false", "no", "0", ""}:
        return False
    raise ValueError("write on or off")


def positive(text: str) -> int:
    """Reads a whole number above zero."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:12]) < 2**31:
        raise ValueError("write a whole number above 0")
    return int(text)


def _setting(parse: Callable[[str], Any], default: Any) -> Any:
    return field(default=default, metadata={"parse": parse})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. Names are those of the flags; sizes are in bytes."""

    data: Path = _setting(Path, Path("distsql-data"))
    database_url: str = _setting(str, "")
    storage: str = _setting(str, "")
    host: str = _setting(str, "127.0.0.1")
    port: int = _setting(positive, 5000)
    workers: int = _setting(positive, 1)
    insecure: bool = _setting(switch, False)  # noqa: FBT003  # a default
    redirect: bool = _setting(switch, True)  # noqa: FBT003  # a default
    access_log: bool = _setting(switch, True)  # noqa: FBT003  # a default
    pool_size: int = _setting(positive, 10)
    statement_timeout: timedelta = _setting(duration, timedelta(seconds=30))
    lock_timeout: timedelta = _setting(duration, timedelta(seconds=10))
    upload_expiry: timedelta = _setting(duration, timedelta(hours=24))
    manifest_limit: int = _setting(size, 8 * 1024**2)
    body_timeout: timedelta = _setting(duration, timedelta(seconds=60))
    stop_timeout: timedelta = _setting(duration, timedelta(seconds=30))
    gc_grace: timedelta = _setting(duration, timedelta(hours=1))

    @property
    def storage_url(self) -> str:
        """Where bytes are kept: as set, else a folder below ``data``."""
        return self.storage or (self.data.absolute() / "bytes").as_uri()

    @property
    def url(self) -> str:
        """Where clients on this machine find the registry."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def check_exposure(self) -> None:
        """Without authentication the registry listens on loopback only, unless told that this is meant."""
        if self.host not in LOOPBACK and not self.insecure:
            raise SettingsError(
                f"Listening on {self.host} without authentication lets everybody who reaches this machine push and "
                "delete: listen on 127.0.0.1, or add --insecure if something else keeps strangers out"
            )


def load(
    flags: Mapping[str, object], *, environ: Mapping[str, str] = os.environ, config: Path | None = None
) -> Settings:
    """Settings from all sources; `SettingsError` names the setting, where it came from, and how to write it.

    ``flags`` are by field name, None where a flag was not given.
    """
    config = config or (Path(environ[PREFIX + "CONFIG"]) if environ.get(PREFIX + "CONFIG") else None)
    values: dict[str, object] = {}
    parsers = {each.name: each.metadata["parse"] for each in fields(Settings)}
    from_file = _read_file(config, known=parsers) if config else {}
    for name, parse in parsers.items():
        variable = PREFIX + name.upper()
        if flags.get(name) is not None:
            values[name] = _parsed(parse, flags[name], source="--" + name.replace("_", "-"))
        elif environ.get(variable):
            values[name] = _parsed(parse, environ[variable], source=variable)
        elif name in from_file:
            values[name] = _parsed(parse, from_file[name], source=f"{name} in {config}")
    return Settings(**values)  # type: ignore[arg-type]  # each was made by its own parser


def _parsed(parse: Callable[[str], Any], value: object, *, source: str) -> object:
    text = ("on" if value else "off") if isinstance(value, bool) else str(value)
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"{source} is {text!r}: {error}") from error


def _read_file(path: Path, *, known: Mapping[str, object]) -> Mapping[str, object]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The settings file {path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} is no TOML: {error}") from error
    settings = {name.replace("-", "_"): value for name, value in content.items()}
    if unknown := sorted(settings.keys() - known.keys()):
        raise SettingsError(
            f"The settings file {path} has unknown keys: {', '.join(unknown)}; known are {', '.join(known)}"
        )
    return settings
