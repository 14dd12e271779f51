"""What goes wrong, in HTTP's words: a status and the specification's code for each of the registry's errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from distsql import errors
from distsql.api.requests import BodyTimeoutError, ParameterInvalidError, QueryTooLongError
from distsql.api.responses import Header, Response, header, json_response

# The most special class first: the first one that fits decides.
_ANSWERS: Final[tuple[tuple[type[errors.DistsqlError], int, str], ...]] = (
    (errors.NameInvalidError, 400, "NAME_INVALID"),
    (errors.NameUnknownError, 404, "NAME_UNKNOWN"),
    (errors.ReferenceInvalidError, 400, "TAG_INVALID"),
    (errors.TagUnknownError, 404, "MANIFEST_UNKNOWN"),
    (errors.TagChangedError, 412, "DENIED"),
    (errors.TooManyTagsError, 414, "TAG_INVALID"),
    (errors.DigestInvalidError, 400, "DIGEST_INVALID"),
    (errors.ManifestUnknownError, 404, "MANIFEST_UNKNOWN"),
    (errors.ManifestInvalidError, 400, "MANIFEST_INVALID"),
    (errors.ManifestTooLargeError, 413, "MANIFEST_INVALID"),
    (errors.ManifestUnverifiedError, 400, "MANIFEST_UNVERIFIED"),
    (errors.ManifestReferencesUnknownError, 400, "MANIFEST_BLOB_UNKNOWN"),
    (errors.BlobUnknownError, 404, "BLOB_UNKNOWN"),
    # 405 is the specification's answer to a deletion that this registry doesn't do; the message says why.
    (errors.InUseError, 405, "UNSUPPORTED"),
    (errors.UploadUnknownError, 404, "BLOB_UPLOAD_UNKNOWN"),
    (errors.UploadRangeError, 416, "BLOB_UPLOAD_INVALID"),
    (errors.UploadBusyError, 409, "BLOB_UPLOAD_INVALID"),
    (errors.SizeInvalidError, 400, "SIZE_INVALID"),
    # Clients that try again do so after 408, and an upload goes on where it stands.
    (BodyTimeoutError, 408, "SIZE_INVALID"),
    (QueryTooLongError, 414, "UNSUPPORTED"),
    (ParameterInvalidError, 400, "UNSUPPORTED"),
    (errors.RangeUnsatisfiableError, 416, "RANGE_INVALID"),
    (errors.SettingInvalidError, 400, "UNSUPPORTED"),
    (errors.RepositoryExistsError, 409, "NAME_INVALID"),
    (errors.TenantExistsError, 409, "NAME_INVALID"),
    (errors.TenantUnknownError, 404, "NAME_UNKNOWN"),
    (errors.CredentialsInvalidError, 401, "UNAUTHORIZED"),
    (errors.AccountExistsError, 409, "UNSUPPORTED"),
    (errors.AccountUnknownError, 404, "UNSUPPORTED"),
    (errors.AccountInvalidError, 400, "UNSUPPORTED"),
    (errors.GrantInvalidError, 400, "UNSUPPORTED"),
    (errors.WebhookUnknownError, 404, "UNSUPPORTED"),
    (errors.AddressRefusedError, 400, "UNSUPPORTED"),
    (errors.DeliveryFailedError, 409, "UNSUPPORTED"),
    (errors.AuditExportError, 409, "UNSUPPORTED"),
    (errors.PageInvalidError, 400, "PAGINATION_NUMBER_INVALID"),
    (errors.UnsupportedError, 405, "UNSUPPORTED"),
    (errors.DeletionRefusedError, 405, "UNSUPPORTED"),
    (errors.RefusedError, 403, "DENIED"),
    (errors.StoreFullError, 507, "UNAVAILABLE"),
    (errors.UnavailableError, 503, "UNAVAILABLE"),
)


def error_response(
    status: int, code: str, message: str, detail: object = None, headers: tuple[Header, ...] = ()
) -> Response:
    """The specification's error body ("Error Codes")."""
    error = {"code": code, "message": message, "detail": detail}
    return json_response(status, {"errors": [error]}, headers)


# What is wrong with the machinery is told to whoever runs it, in the log: messages name hosts, folders and PostgreSQL's
# own words. Clients hear what it means for them.
_TOLD: Final[tuple[tuple[type[errors.DistsqlError], str], ...]] = (
    (errors.CatalogueUnavailableError, "The registry's catalogue doesn't answer just now: try again"),
    (errors.StoreFullError, "The registry has no room for this content: try again when its operator has made some"),
    (errors.StoreUnavailableError, "The registry's byte store doesn't answer just now: try again"),
    (errors.BytesMissingError, "The registry has lost this content's bytes: push it again, and tell its operator"),
    (
        errors.ContentCorruptError,
        "The registry's copy of this is damaged: push it again, and tell its operator",
    ),
)


def response_to(error: errors.DistsqlError, shown: Callable[[str], str] = str) -> Response:
    """The answer to an error of the registry. One that isn't listed is the server's own fault: 500.

    ``shown`` writes names in messages as the client does.
    """
    message = next((told for kind, told in _TOLD if isinstance(error, kind)), shown(error.message))
    for kind, status, code in _ANSWERS:
        if isinstance(error, kind):
            return error_response(status, code, message, _detail(error.detail, shown), _headers(error))
    return error_response(500, "UNKNOWN", message)


def _detail(detail: errors.Detail, shown: Callable[[str], str]) -> object:
    if isinstance(detail, Mapping) and isinstance(name := detail.get("name"), str):
        return {**detail, "name": shown(name)}
    return detail


def _headers(error: errors.DistsqlError) -> tuple[Header, ...]:
    if isinstance(error, errors.UnavailableError):
        return (header(b"retry-after", error.retry_after),)
    if isinstance(error, errors.UploadRangeError):
        return (header(b"range", f"0-{max(error.offset - 1, 0)}"),)
    if isinstance(error, errors.RangeUnsatisfiableError):
        return (header(b"content-range", f"bytes */{error.length}"),)
    return ()
