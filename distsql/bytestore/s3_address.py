"""The address of an object store: ``s3://bucket/prefix?endpoint=...&region=...``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from distsql.errors import SettingsError

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z", re.ASCII)
_PREFIX: Final = re.compile(r"[A-Za-z0-9!_.*'()/-]{0,512}\Z", re.ASCII)
_REGION: Final = re.compile(r"[a-z0-9-]{1,64}\Z", re.ASCII)
_TIMEOUT: Final = re.compile(r"([1-9]\d{0,3})s\Z", re.ASCII)
_FORM: Final = "s3://bucket/prefix?endpoint=http://host:port&region=name"


@dataclass(frozen=True, slots=True)
class S3Address:
    """Where the objects are. Without an endpoint that of the region at AWS; credentials are never part of it.

    ``public_endpoint`` is where clients reach the store, when that is elsewhere. ``timeout_s`` is how long the store
    may be silent.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    public_endpoint: str | None = None
    region: str | None = None
    timeout_s: int = 30

    @property
    def url(self) -> str:
        """As it is written."""
        given = {
            "endpoint": self.endpoint,
            "public-endpoint": self.public_endpoint,
            "region": self.region,
            "timeout": f"{self.timeout_s}s" if self.timeout_s != S3Address(self.bucket).timeout_s else None,
        }
        query = urlencode({name: value for name, value in given.items() if value}, safe=":/")
        return f"s3://{self.bucket}/{self.prefix}" + (f"?{query}" if query else "")


def parse_address(parts: SplitResult) -> S3Address:
    """The address in a URL; `SettingsError`, which doesn't repeat it."""
    if "@" in parts.netloc:
        raise SettingsError(
            "an s3: address has no credentials in it: give them as AWS clients find them, for example in "
            f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Write {_FORM}"
        )
    prefix = unquote(parts.path).strip("/")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    timeout = given.pop("timeout", "30s")
    if unknown := sorted(given.keys() - {"endpoint", "public-endpoint", "region"}):
        raise SettingsError(f"an s3: address has no {unknown[0][:40]!r}: write {_FORM}")
    region = given.get("region")
    if (
        not _BUCKET.match(parts.netloc)
        or not _PREFIX.match(prefix)
        or parts.fragment
        or (region is not None and not _REGION.match(region))
        or not _TIMEOUT.match(timeout)
    ):
        raise SettingsError(f"an s3: address names a bucket, and a prefix without special characters: {_FORM}")
    return S3Address(
        parts.netloc,
        prefix,
        endpoint=_endpoint(given.get("endpoint")),
        public_endpoint=_endpoint(given.get("public-endpoint")),
        region=region,
        timeout_s=int(timeout[:-1]),
    )


def _endpoint(text: str | None) -> str | None:
    if text is None:
        return None
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or parts.query:
        raise SettingsError(f"the endpoint of an s3: address is a plain http or https URL: {_FORM}")
    return text.rstrip("/")
