"""Descriptors and annotations as they stand in a document (image specification, descriptor.md and annotations.md).

Go programs write null for what is empty, so null is always the same as absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from distsql.errors import DigestInvalidError
from distsql.oci.descriptor import NO_ANNOTATIONS, Descriptor, Platform
from distsql.oci.digest import Digest
from distsql.oci.manifest.document import Document, Place, malformed
from distsql.oci.manifest.media_types import MAX_LENGTH

MAX_REFERENCES: Final = 100_000
MAX_SIZE: Final = 2**63 - 1  # descriptor.md: int64
# An annotation's key is a key of an index in the catalogue, whose entries end at some 2,700 bytes.
MAX_KEY_LENGTH: Final = 512


def read_list(document: Document, name: str) -> list[object]:
    """The list of this name, empty when absent or null; `ManifestInvalidError` when it is none, or too long."""
    values = document.get(name)
    if values is None:
        return []
    if not isinstance(values, list):
        raise malformed("must be a list", (name,))
    check_length(values, (name,))
    return values


def check_length(values: Sequence[object], at: Place = ()) -> None:
    """`ManifestInvalidError` for more references than a manifest has."""
    if len(values) > MAX_REFERENCES:
        raise malformed(f"{len(values)} entries: a manifest has at most {MAX_REFERENCES} references", at)


class Descriptors(list[Descriptor]):
    """A list in a document that was read already (`distsql.oci.manifest.plain`)."""


def read_descriptors(document: Document, name: str) -> Sequence[Descriptor]:
    """The descriptors in the list of this name; `ManifestInvalidError` tells the first that is none."""
    values = read_list(document, name)
    if isinstance(values, Descriptors):
        return values
    return [read_descriptor(value, (name, position)) for position, value in enumerate(values)]


def read_subject(document: Document) -> Descriptor | None:
    """What the manifest says something about (manifest.md, "subject"); it need not exist."""
    value = document.get("subject")
    return None if value is None else read_descriptor(value, ("subject",))


def read_descriptor(value: object, at: Place) -> Descriptor:
    """The descriptor that the value is; else `ManifestInvalidError`. Unknown fields and ``data`` are left alone."""
    if not isinstance(value, dict):
        raise malformed("must be a descriptor: an object with mediaType, digest and size", at)
    media_type = read_text(value, "mediaType", at)
    if media_type is None:
        raise malformed("is missing: a descriptor has a media type", (*at, "mediaType"))
    size = value.get("size")
    if type(size) is not int or not 0 <= size <= MAX_SIZE:  # a bool is an int, but no size
        raise malformed("must be a whole number of bytes, from 0 to 2^63 - 1", (*at, "size"))
    digest = read_digest(value, "digest", at)
    return Descriptor(media_type, size, digest, *_read_rest(value, at))


_REQUIRED: Final = 3  # media type, size and digest
_Rest = tuple[str | None, Platform | None, Mapping[str, str], tuple[str, ...]]
_NOTHING_ELSE: Final[_Rest] = (None, None, NO_ANNOTATIONS, ())


def _read_rest(value: Document, at: Place = ()) -> _Rest:
    """What a descriptor may have as well, in the order of its fields."""
    if len(value) == _REQUIRED:  # as most layers have it
        return _NOTHING_ELSE
    return (
        read_text(value, "artifactType", at) if "artifactType" in value else None,
        _read_platform(value, at) if "platform" in value else None,
        read_annotations(value, at) if "annotations" in value else NO_ANNOTATIONS,
        _read_urls(value, at) if "urls" in value else (),
    )


def read_digest(document: Document, name: str, at: Place) -> Digest:
    """A digest within a manifest. A malformed one makes the manifest invalid: it is not the digest of the request."""
    value = document.get(name)
    if not isinstance(value, str):
        raise malformed("must be a digest, as a string", (*at, name))
    try:
        return Digest.parse(value)
    except DigestInvalidError as error:
        raise malformed(error.message, (*at, name)) from None


def read_text(document: Document, name: str, at: Place = ()) -> str | None:
    """A short string, such as a media type; None when absent, null or empty."""
    value = document.get(name)
    if value is None or (isinstance(value, str) and len(value) <= MAX_LENGTH):
        return value or None
    raise malformed(f"must be a string of at most {MAX_LENGTH} characters", (*at, name))


def read_annotations(document: Document, at: Place = ()) -> Mapping[str, str]:
    """Annotations: strings by strings (annotations.md, "Rules")."""
    value = document.get("annotations")
    if not value and (value is None or isinstance(value, dict)):
        return NO_ANNOTATIONS
    if not isinstance(value, dict):
        raise malformed("must be an object of strings", (*at, "annotations"))
    for key, text in value.items():
        if not isinstance(text, str):
            raise malformed("must be a string, as every annotation", (*at, "annotations", key[:80]))
        if len(key) > MAX_KEY_LENGTH:
            raise malformed(f"a key has at most {MAX_KEY_LENGTH} characters", (*at, "annotations", key[:80]))
    return MappingProxyType(value)


def _read_platform(document: Document, at: Place) -> Platform | None:
    """The platform (image-index.md, "platform"), None when it says nothing."""
    value = document.get("platform")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise malformed("must be an object", (*at, "platform"))
    at = (*at, "platform")
    os, architecture = read_text(value, "os", at) or "", read_text(value, "architecture", at) or ""
    variant = (read_text(value, "variant", at) or "") if "variant" in value else ""
    return make_platform(os, architecture, variant)


@lru_cache(maxsize=256)
def make_platform(os: str, architecture: str, variant: str) -> Platform | None:
    """The platform, None when it says nothing; remembered, for there are few, and many children of indexes."""
    return Platform(os, architecture, variant) if os or architecture or variant else None


def _read_urls(document: Document, at: Place) -> tuple[str, ...]:
    """Where else the content is, for clients: the registry never goes there (GHSA-742w-89gc-8m9c)."""
    values = document.get("urls")
    if values is None:
        return ()
    if not isinstance(values, list):
        raise malformed("must be a list of strings", (*at, "urls"))
    urls = tuple(url for url in values if isinstance(url, str))
    if len(urls) != len(values):
        raise malformed("must be a list of strings", (*at, "urls"))
    return urls
