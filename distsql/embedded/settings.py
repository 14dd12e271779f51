"""What the private PostgreSQL is told in conf.d, beside what initdb writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from distsql.embedded.homes import PORT
from distsql.embedded.memory import MIB, buffers

if TYPE_CHECKING:
    from pathlib import Path

    from distsql.embedded.homes import Home

FILE_NAME: Final = "00-distsql.conf"
INCLUDE: Final = """
# distsql: its own settings, and those that you put beside them (conf.d/90-local.conf)
include_dir '../conf.d'
"""

HEADER: Final = """\
# Written by distsql at every start: don't edit. Put settings of your own into another file of this folder, such as
# 90-local.conf; files are read in the order of their names, and the last one wins.
"""

SETTINGS: Final = {
    "listen_addresses": "",  # never TCP
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "password_encryption": "scram-sha-256",
    "jit": "off",  # compiling costs more than the registry's short queries
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "logging_collector": "off",  # the owner rotates the log, by size
    "cluster_name": "distsql",
}


def write_settings(home: Home, socket_folder: Path) -> None:
    """Write our file of conf.d, readable for the server's user."""
    home.make_folder(home.settings_dir, mode=0o750)
    values = {
        **SETTINGS,
        "shared_buffers": f"{buffers() // MIB}MB",
        "unix_socket_directories": str(socket_folder),
    }
    lines = "".join(f"{name} = {_quoted(value)}\n" for name, value in values.items())
    home.write_file(home.settings_dir / FILE_NAME, HEADER + lines, mode=0o640)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
