"""What a registry answers when it refuses: the same errors as `distsql.errors`, read from status, code and detail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from distsql import errors

_BY_CODE: Final[Mapping[str, type[errors.RegistryError]]] = {
    "NAME_INVALID": errors.NameInvalidError,
    "NAME_UNKNOWN": errors.NameUnknownError,
    "TAG_INVALID": errors.ReferenceInvalidError,
    "DIGEST_INVALID": errors.DigestInvalidError,
    "MANIFEST_UNKNOWN": errors.ManifestUnknownError,
    "MANIFEST_INVALID": errors.ManifestInvalidError,
    "MANIFEST_UNVERIFIED": errors.ManifestUnverifiedError,
    "MANIFEST_BLOB_UNKNOWN": errors.ManifestReferencesUnknownError,
    "BLOB_UNKNOWN": errors.BlobUnknownError,
    "BLOB_UPLOAD_UNKNOWN": errors.UploadUnknownError,
    "SIZE_INVALID": errors.SizeInvalidError,
    "PAGINATION_NUMBER_INVALID": errors.PageInvalidError,
    "UNSUPPORTED": errors.UnsupportedError,
}
# Where one code has several meanings, and where an answer has none.
_BY_STATUS: Final[Mapping[int, type[errors.RegistryError]]] = {
    404: errors.NameUnknownError,
    405: errors.UnsupportedError,
    409: errors.UploadBusyError,
    412: errors.TagChangedError,
    413: errors.ManifestTooLargeError,
    414: errors.TooManyTagsError,
}
_PLAIN: Final = frozenset({400, 404, 405})  # here the code says it all
_SERVER: Final = 500
_TRY_LATER: Final = frozenset({429, 503})


def error_of(status: int, headers: Mapping[str, str], body: bytes, *, asked: str) -> errors.DistsqlError:
    """The error that this answer to what was ``asked`` means."""
    told = _told(body)
    message = "; ".join(str(each.get("message") or each.get("code")) for each in told) or f"{asked} gives {status}"
    if status == 507:  # noqa: PLR2004  # Insufficient Storage (RFC 4918, section 11.5)
        return errors.StoreFullError(message)
    if status in _TRY_LATER or status >= _SERVER:
        after = headers.get("retry-after", "")
        return errors.UnavailableError(message, retry_after=int(after) if after.isascii() and after.isdigit() else 1)
    code = str(told[0].get("code")) if told else ""
    detail = told[0].get("detail") if len(told) == 1 else [each.get("detail") for each in told]
    if status == 416:  # noqa: PLR2004  # Range Not Satisfiable: of content, which tells its length, or of an upload
        length = headers.get("content-range", "").partition("*/")[2]
        if length.isascii() and length.isdigit():
            return errors.RangeUnsatisfiableError(message, length=int(length))
        return errors.UploadRangeError(message, offset=_offset(detail, headers.get("range", "")))
    if status == 405 and isinstance(detail, Mapping) and "referrer" in detail:  # noqa: PLR2004
        return errors.InUseError(message, detail=detail)
    kind = _BY_CODE.get(code) if status in _PLAIN else None
    if status == 409 and code == "NAME_INVALID":  # noqa: PLR2004
        kind = errors.RepositoryExistsError
    kind = kind or _BY_STATUS.get(status, errors.RegistryError)
    return kind(message, detail=detail if isinstance(detail, Mapping | Sequence) else None)


def _told(body: bytes) -> list[dict[str, Any]]:
    """The entries of the specification's error body; none when it is no such body."""
    try:
        entries = json.loads(body)["errors"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []
    return [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []


def _offset(detail: object, sent_range: str) -> int:
    """How many bytes the session has."""
    if isinstance(detail, Mapping) and isinstance(detail.get("offset"), int):
        return int(detail["offset"])
    return end_of(sent_range)


def end_of(sent_range: str) -> int:
    """Bytes that a session's ``Range`` tells of. ``0-0`` is 0 or 1 of them: the OCI API can't say which."""
    last = sent_range.removeprefix("bytes=").partition("-")[2]
    return int(last) + 1 if last.isascii() and last.isdigit() and last != "0" else 0
