"""Settings: one frozen object, read once. Flags win over the environment (``DISTSQL_*``), which wins over the file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from distsql.errors import SettingsError
from distsql.values import duration

PREFIX: Final = "DISTSQL_"

_PLAIN_URL: Final = re.compile(r"[A-Za-z0-9:/._\[\]~%-]+\Z", re.ASCII)
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z", re.ASCII)
_SIZE: Final = re.compile(r"(\d{1,15})(B|[kKMGT]B|[KMGT]iB)?\Z", re.ASCII)
_SIZE_UNITS: Final[dict[str, int]] = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letters in enumerate(("kK", "M", "G", "T"), 1) for letter in letters},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
}


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


def workers(text: str) -> int | None:
    """Reads a number of processes, or auto, for which there is no number here."""
    return None if text == "auto" else positive(text)


def port(text: str) -> int:
    """Reads the number of a TCP port."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:12]) < 2**16:
        raise ValueError("write a port between 1 and 65535")
    return int(text)


def authentication(text: str) -> str:
    """Reads none or token."""
    if text not in {"none", "token"}:
        raise ValueError("write none or token")
    return text


def several(text: str) -> tuple[str, ...]:
    """Reads texts with spaces between them."""
    return tuple(text.split())


def pooler(text: str) -> str:
    """Reads what is between here and PostgreSQL: auto, none, transaction or prepared."""
    if text not in {"auto", "none", "transaction", "prepared"}:
        raise ValueError("write auto, none, transaction or prepared")
    return text


def web_address(text: str) -> str:
    """Reads an http or https URL without a path's end, a query or credentials."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("write a URL such as https://registry.example.org")
    if not _PLAIN_URL.match(text):
        raise ValueError("write a URL without quotes, spaces and the like")
    return text.rstrip("/")


def domain(text: str) -> str:
    """Reads a domain's name, in lower case."""
    if not _DOMAIN.match(text.lower()):
        raise ValueError("write a domain such as registry.example.org, without a port")
    return text.lower()


# How a setting's text is read, by the kind of setting.
_PATH: Final = {"parse": Path}
_TEXT: Final = {"parse": str}
_NUMBER: Final = {"parse": positive}
_SWITCH: Final = {"parse": switch}
_DURATIONS: Final = {"parse": duration}
_SIZES: Final = {"parse": size}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. Names are those of the flags; sizes are in bytes."""

    data: Path = field(default=Path("distsql-data"), metadata=_PATH)
    database_url: str = field(default="", metadata=_TEXT, repr=False)  # may hold a password
    replica_url: tuple[str, ...] = field(default=(), metadata={"parse": several}, repr=False)
    storage: str = field(default="", metadata=_TEXT)
    host: str = field(default="127.0.0.1", metadata=_TEXT)
    port: int = field(default=5000, metadata={"parse": port})
    auth: str = field(default="none", metadata={"parse": authentication})
    public_url: str = field(default="", metadata={"parse": web_address})
    tenant_domain: str = field(default="", metadata={"parse": domain})
    workers: int | None = field(default=None, metadata={"parse": workers})
    insecure: bool = field(default=False, metadata=_SWITCH)
    read_only: bool = field(default=False, metadata=_SWITCH)
    redirect: bool = field(default=True, metadata=_SWITCH)
    access_log: bool = field(default=True, metadata=_SWITCH)
    pool_size: int = field(default=10, metadata=_NUMBER)
    pooler: str = field(default="auto", metadata={"parse": pooler})
    statement_timeout: timedelta = field(default=timedelta(seconds=30), metadata=_DURATIONS)
    lock_timeout: timedelta = field(default=timedelta(seconds=10), metadata=_DURATIONS)
    upload_expiry: timedelta = field(default=timedelta(hours=24), metadata=_DURATIONS)
    manifest_limit: int = field(default=8 * 1024**2, metadata=_SIZES)
    body_timeout: timedelta = field(default=timedelta(seconds=60), metadata=_DURATIONS)
    stop_timeout: timedelta = field(default=timedelta(seconds=30), metadata=_DURATIONS)
    metrics_token: str = field(default="", metadata=_TEXT, repr=False)
    traces: bool = field(default=False, metadata=_SWITCH)
    audit_seal_interval: timedelta = field(default=timedelta(minutes=1), metadata=_DURATIONS)
    webhook_interval: timedelta = field(default=timedelta(seconds=1), metadata=_DURATIONS)
    webhook_allow: str = field(default="", metadata=_TEXT)
    pull_flush_interval: timedelta = field(default=timedelta(seconds=5), metadata=_DURATIONS)
    gc: bool = field(default=True, metadata=_SWITCH)
    gc_interval: timedelta = field(default=timedelta(minutes=1), metadata=_DURATIONS)
    gc_grace: timedelta = field(default=timedelta(hours=1), metadata=_DURATIONS)
    restore_period: timedelta = field(default=timedelta(days=7), metadata=_DURATIONS)
    recovery_window: timedelta = field(default=timedelta(0), metadata=_DURATIONS)
    retention: bool = field(default=True, metadata=_SWITCH)
    retention_interval: timedelta = field(default=timedelta(hours=1), metadata=_DURATIONS)

    @property
    def storage_url(self) -> str:
        """Where bytes are kept: as set, else a folder below ``data``."""
        return self.storage or (self.data.absolute() / "bytes").as_uri()

    @property
    def private_hosts(self) -> Sequence[str]:
        """Names of hosts to which webhooks may lead although their addresses are private."""
        return [name.strip() for name in self.webhook_allow.split(",") if name.strip()]

    @property
    def url(self) -> str:
        """Where clients on this machine find the registry."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def check_exposure(self) -> None:
        """Without authentication the registry listens on loopback only, unless told that this is meant."""
        if self.auth == "none" and not self.insecure and not _is_loopback(self.host):
            raise SettingsError(
                f"Listening on {self.host} without authentication lets everybody who reaches this machine push and "
                "delete: listen on 127.0.0.1, let people log in (--auth token), or add --insecure if something else "
                "keeps strangers out"
            )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False  # a name, which may lead anywhere


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
        if flags.get(name) not in (None, ()):
            values[name] = _parsed(parse, flags[name], source="--" + name.replace("_", "-"))
        elif environ.get(variable):
            values[name] = _parsed(parse, environ[variable], source=variable)
        elif name in from_file:
            values[name] = _parsed(parse, from_file[name], source=f"{name} in {config}")
    return Settings(**values)  # type: ignore[arg-type]  # each was made by its own parser


def _parsed(parse: Callable[[str], Any], value: object, *, source: str) -> object:
    if parse is several and isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    if isinstance(value, list | dict):
        raise SettingsError(f"{source} is a list or a table: write a single value")
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
