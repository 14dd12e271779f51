"""From a byte store's address to the store."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from distsql.bytestore.contract import ByteStore
from distsql.bytestore.filesystem import FilesystemStore
from distsql.bytestore.memory import MemoryStore
from distsql.bytestore.s3_address import S3Address, parse_address
from distsql.errors import SettingsError

_KNOWN: Final = (
    "file:///path (a folder), s3://bucket/prefix?endpoint=http://host:port&region=name (an object store) or memory: "
    "(for tests, gone with the process)"
)


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
        case "s3":
            return _object_store(parse_address(parts))
        case "memory" if url == "memory:":
            return MemoryStore()
        case "memory":
            raise SettingsError("memory: takes nothing behind the colon, each one is a store of its own")
        case "":
            raise SettingsError("the byte store's address is a URL: write file:///path for the folder /path")
        case scheme:
            raise SettingsError(f"there is no byte store of scheme {scheme}: in the address; give {_KNOWN}")


def _object_store(address: S3Address) -> ByteStore:
    try:
        from distsql.bytestore.s3 import S3Store  # noqa: PLC0415  # its client library is an extra, and heavy
    except ModuleNotFoundError as error:
        if error.name not in {"boto3", "botocore"}:
            raise
        raise SettingsError("an s3: address needs a library that isn't there: pip install 'distsql[s3]'") from error
    return S3Store(address)


def _folder(parts: SplitResult) -> Path:
    path = unquote(parts.path)
    absolute = path.startswith("/") and not path.startswith("//")
    if parts.netloc or parts.query or parts.fragment or not absolute or "\0" in path or path.strip("/") == "":
        raise SettingsError(
            "a file: address has three slashes and the absolute path of a folder: file:///var/lib/distsql/blobs "
            "(a ? or # in the path is written %3F or %23)"
        )
    return Path(path)
