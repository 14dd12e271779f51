"""Media types of manifests and of layers that matter to a registry (image specification, media-types.md)."""

from __future__ import annotations

import re
from typing import Final

from distsql.errors import ManifestInvalidError

OCI_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_IMAGE: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"
JSON: Final = "application/json"

# What distribution calls the layers of a schema 1 manifest, which gives them no media type of its own.
DOCKER_SCHEMA1_LAYER: Final = "application/vnd.docker.container.image.rootfs.diff+x-gtar"

IMAGES: Final = frozenset({OCI_IMAGE, DOCKER_IMAGE})
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
SCHEMA1: Final = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})

# Layers that a registry need not hold (image specification, layer.md, "Non-Distributable Layers"; Docker: "foreign").
NON_DISTRIBUTABLE: Final = frozenset(
    {
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    }
)

MAX_LENGTH: Final = 255  # RFC 6838, section 4.2: 127 characters, a slash, and 127 more

# RFC 9110, section 8.3.1: type "/" subtype, each a token. It is served in a header for ever: nothing else gets in.
_WORD: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_MEDIA_TYPE: Final = re.compile(rf"{_WORD}/{_WORD}\Z", re.ASCII)


def without_parameters(content_type: str | None) -> str | None:
    """The media type of a Content-Type value as written, without parameters; None when there is none."""
    if content_type is None:
        return None
    return content_type.partition(";")[0].strip(" \t") or None


def check_media_type(text: str) -> str:
    """The media type itself, when it can be the media type of a manifest; else `ManifestInvalidError`."""
    if len(text) > MAX_LENGTH or not _MEDIA_TYPE.match(text):
        raise ManifestInvalidError(
            f"{text[:80]!r} is no media type: type/subtype, at most {MAX_LENGTH} characters",
            detail={"mediaType": text[:MAX_LENGTH]},
        )
    return text
