"""Descriptors: the typed, sized reference to content by digest (OCI image specification, descriptor.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from distsql.oci.digest import Digest

NO_ANNOTATIONS: Final[Mapping[str, str]] = MappingProxyType({})


def no_annotations() -> Mapping[str, str]:
    """The default of a dataclass field: Python 3.11 takes no mapping as a default, not even one that can't change."""
    return NO_ANNOTATIONS


@dataclass(frozen=True, slots=True)
class Platform:
    """What a manifest runs on (image-index.md, "platform"); empty text where the manifest says nothing."""

    os: str = ""
    architecture: str = ""
    variant: str = ""


class Descriptor(NamedTuple):
    """A reference to content. Fields are only ever added, at the end.

    ``length`` is in bytes and is called ``size`` on the wire.
    """

    media_type: str
    length: int
    digest: Digest
    artifact_type: str | None = None
    platform: Platform | None = None
    annotations: Mapping[str, str] = NO_ANNOTATIONS
    urls: tuple[str, ...] = ()

    def __hash__(self) -> int:
        """Of all but the annotations, for a mapping has none; two that differ in nothing else are rare."""
        return hash((self.media_type, self.length, self.digest, self.artifact_type, self.platform, self.urls))

    def to_json(self) -> dict[str, object]:
        """The wire form, a JSON object with the names of the OCI and Docker formats."""
        # In one step: a page of referrers has a hundred of them.
        media_type, length, digest, artifact_type, platform, annotations, urls = self
        wire: dict[str, object] = {"mediaType": media_type, "digest": str(digest), "size": length}
        if artifact_type:
            wire["artifactType"] = artifact_type
        if annotations:
            wire["annotations"] = dict(annotations)
        if platform is not None:
            wire["platform"] = {
                name: value
                for name, value in (
                    ("architecture", platform.architecture),
                    ("os", platform.os),
                    ("variant", platform.variant),
                )
                if value
            }
        if urls:
            wire["urls"] = list(urls)
        return wire
