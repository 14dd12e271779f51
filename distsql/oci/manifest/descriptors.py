"""Descriptors and annotations as they stand in a document (image specification, descriptor.md and annotations.md).

Go programs write null for what is empty, so null is always the same as absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import repeat
from types import MappingProxyType
from typing import Any, Final

from distsql.errors import DigestInvalidError, RegistryError
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


def read_descriptors(document: Document, name: str) -> list[Descriptor]:
    """The descriptors in the list of this name; `ManifestInvalidError` tells the first that is none."""
    values = read_list(document, name)
    plain = _read_plain(values)
    if plain is None:
        return [read_descriptor(value, (name, position)) for position, value in enumerate(values)]
    return plain


_REQUIRED: Final = ("mediaType", "size", "digest")


def _read_plain(values: Sequence[Any]) -> list[Descriptor] | None:
    """All descriptors at once, field by field, when nothing is wrong with any: an index has ten thousands.

    None when something is; to look at one after the other tells what it is.
    """
    try:
        media_types, sizes, digests = ([value[name] for value in values] for name in _REQUIRED)
        kinds = set(map(type, media_types)), set(map(type, sizes)), set(map(type, digests))
        if kinds != ({str}, {int}, {str}) or not 0 <= min(sizes) <= max(sizes) <= MAX_SIZE:
            return None
        if not all(0 < len(media_type) <= MAX_LENGTH for media_type in set(media_types)):
            return None
        parsed, more = Digest.parse_all(digests), _read_rests(values)
    except (KeyError, TypeError, RegistryError):
        return None
    # Each made as it is, without the function that makes one from its fields.
    return list(map(partial(tuple.__new__, Descriptor), zip(media_types, sizes, parsed, *more, strict=False)))


def _read_rests(values: Sequence[Document]) -> Iterable[Iterable[Any]]:
    """What descriptors may have as well, field by field: most have nothing, or a platform of which there are few."""
    names = set().union(*values)
    if names <= {*_REQUIRED, "platform"}:
        artifact_types, no_platforms, annotations, urls = map(repeat, _NOTHING_ELSE)
        return artifact_types, _read_platforms(values) if "platform" in names else no_platforms, annotations, urls
    rest = list(map(_read_rest, values))
    # Lists and no tuples of each: Python's collector looks at them all, again and again.
    return [[each[at] for each in rest] for at in range(len(_NOTHING_ELSE))]


def _read_platforms(values: Sequence[Document]) -> list[Platform | None]:
    """Each platform is looked at once: there are few, and many children of indexes."""
    platforms: list[Any] = [value.get("platform", {}) for value in values]
    items: list[tuple[tuple[str, Any], ...]] = list(map(tuple, map(dict.items, platforms)))
    known = {each: _read_platform({"platform": dict(each)}, ()) for each in set(items)}
    return list(map(known.__getitem__, items))


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


_Rest = tuple[str | None, Platform | None, Mapping[str, str], tuple[str, ...]]
_NOTHING_ELSE: Final[_Rest] = (None, None, NO_ANNOTATIONS, ())


def _read_rest(value: Document, at: Place = ()) -> _Rest:
    """What a descriptor may have as well, in the order of its fields."""
    if len(value) == len(_REQUIRED):  # as most layers have it
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
    return _platform(os, architecture, variant) if os or architecture or variant else None


# There are few platforms, and many children of indexes.
_platform = lru_cache(maxsize=256)(Platform)


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
