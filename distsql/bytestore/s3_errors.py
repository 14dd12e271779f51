"""What an object store's errors mean."""

from __future__ import annotations

from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
)
from urllib3.exceptions import HTTPError

from distsql.errors import BytesMissingError, DistsqlError, StoreFullError, StoreUnavailableError


class SilentStoreError(BotoCoreError):  # type: ignore[misc]  # botocore has no types
    """Attempts were not answered, and there is no further one."""

    fmt = "no answer in time"


FAILURES: Final = (BotoCoreError, ClientError, HTTPError, OSError)

_MISSING: Final = frozenset({"NoSuchKey", "NoSuchUpload", "InvalidRange", "InvalidPart", "404", "416"})
_FULL: Final = frozenset(
    {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "507"}
)
_REFUSED: Final = frozenset(
    {
        "AccessDenied", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId",
        "InvalidToken", "RequestExpired", "SignatureDoesNotMatch", "TokenRefreshRequired", "401", "403",
    }
)  # fmt: skip
_FULL_STATUS: Final = 507
_FULL_RETRY_S: Final = 30
_RETRY_S: Final = 5


def code_of(error: BaseException) -> str:
    """The store's own word for what went wrong, empty when it didn't say anything."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def is_refusal(error: BaseException) -> bool:
    """Whether the credentials were not taken."""
    return code_of(error) in _REFUSED or isinstance(error, NoCredentialsError | PartialCredentialsError)


def meaning_of(error: Exception, *, store: str, key: str) -> DistsqlError:
    """The error to raise for one of the client library. Its message has no secret: neither URLs nor headers."""
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(error, ClientError) else 0
    if code in _MISSING:
        return BytesMissingError(f"{store} has no object {key[:64]!r}, or not all of its bytes")
    if code in _FULL or status == _FULL_STATUS:
        return StoreFullError(
            f"no room for content in {store}: {code}. Make room there, raise its quota, or delete images and collect "
            "garbage; what was acknowledged is safe",
            retry_after=_FULL_RETRY_S,
        )
    if is_refusal(error):
        return StoreUnavailableError(
            f"{store} refuses our credentials ({code or type(error).__name__}): renew them where AWS clients find them "
            "(they are read again by themselves), and see that they may read, write, delete and list below the prefix",
            retry_after=_RETRY_S,
        )
    if isinstance(error, SilentStoreError | ReadTimeoutError):
        return StoreUnavailableError(f"{store} is silent: no answer in time", retry_after=_RETRY_S)
    if code == "NoSuchBucket":
        return StoreUnavailableError(f"{store}: there is no such bucket (any more)", retry_after=_RETRY_S)
    said = code or type(error).__name__
    return StoreUnavailableError(f"{store} fails: {said}", retry_after=_RETRY_S)
