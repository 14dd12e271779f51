"""From a byte store's address to the store."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from distsql.bytestore.contract import ByteStore
from distsql.bytestore.filesystem import FilesystemStore
from distsql.bytestore.memory import MemoryStore
from distsql.errors import SettingsError

_KNOWN: Final = "file:///path (a folder) or memory: (for tests, gone with the process)"


def open_store(url: str) -> ByteStore:
    """The store at the address, not opened yet; `SettingsError` for what is no address of one.

    Messages don't repeat the address, which may carry a secret.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SettingsError(f"the byte store's address is malformed; give {_KNOWN}") from error
    match parts.scheme:
        case "file":
            return FilesystemStore(_folder(parts))
        case "memory" if url == "memory:":
            return MemoryStore()
        case "memory":
            raise SettingsError("memory: takes nothing behind the colon, each one is a store of its own")
        case "":
            raise SettingsError("the byte store's address is a URL: write file:///path for the folder /path")
        case scheme:
            raise SettingsError(f"there is no byte store of scheme {scheme}: in the address; give {_KNOWN}")


def _folder(parts: SplitResult) -> Path:
    path = unquote(parts.path)
    absolute = path.startswith("/") and not path.startswith("//")
    if parts.netloc or parts.query or parts.fragment or not absolute or "\0" in path or path.strip("/") == "":
        raise SettingsError(
            "a file: address has three slashes and the absolute path of a folder: file:///var/lib/distsql/blobs "
            "(a ? or # in the path is written %3F or %23)"
        )
    return Path(path)
