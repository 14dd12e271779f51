"""An image's config, as far as a registry looks into it (image specification, config.md; Docker's is alike)."""

from __future__ import annotations

from typing import Final

from distsql.errors import ManifestInvalidError
from distsql.oci.manifest.document import read_document

IMAGE_CONFIGS: Final = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
MAX_LENGTH: Final = 1 << 20
"""Of a config, in bytes, that is looked into at all."""
MAX_LABELS: Final = 1000
MAX_KEY: Final = 1024
"""Of a label's name, in bytes of UTF-8; longer ones are left out."""


def read_labels(payload: bytes) -> dict[str, str]:
    """The config's labels; `ManifestInvalidError` when it isn't such a document, or has too many of them."""
    config = read_document(payload).get("config")
    labels = config.get("Labels") if isinstance(config, dict) else None
    if not isinstance(labels, dict):  # null where there are none
        return {}
    if len(labels) > MAX_LABELS:
        raise ManifestInvalidError(f"{len(labels)} labels are more than {MAX_LABELS}")
    return {key: value for key, value in labels.items() if isinstance(value, str) and len(key.encode()) <= MAX_KEY}
