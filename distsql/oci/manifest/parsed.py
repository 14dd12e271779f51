"""What a manifest says, whatever its format: the value that the catalogue stores and that clients get back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import repeat
from typing import NamedTuple

from distsql.oci.descriptor import Descriptor, no_annotations
from distsql.oci.digest import Digest


class Role(StrEnum):
    """What a reference is to its manifest. The subject is no part of a manifest, and stands apart."""

    CONFIG = "config"
    LAYER = "layer"
    MANIFEST = "manifest"
    BLOB = "blob"


class Reference(NamedTuple):
    """One thing that a manifest refers to. When it is not ``required``, the registry may do without it."""

    role: Role
    descriptor: Descriptor
    required: bool = True

    @classmethod
    def to_each(cls, descriptors: Iterable[Descriptor], role: Role, *, required: bool = True) -> tuple[Reference, ...]:
        """One to each, made without the function that makes one from its fields: an index has ten thousands."""
        return tuple(map(partial(tuple.__new__, cls), zip(repeat(role), descriptors, repeat(required), strict=False)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a family of formats reads from a document. ``canonical`` is None where it is the payload itself."""

    parts: tuple[Reference, ...]
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=no_annotations)
    artifact_type: str | None = None
    config_media_type: str | None = None
    labels: Mapping[str, str] = field(default_factory=no_annotations)
    signatures: tuple[bytes, ...] = ()
    declared_name: str | None = None
    declared_tag: str | None = None
    canonical: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedManifest:
    """A manifest of any kind (`distsql.contract.Manifest`), and what the catalogue stores of it.

    Equal payload and media type is an equal manifest.

    ``canonical`` is what the digest is of: the payload, but for Docker schema 1 without its signatures. ``parts`` are
    the references with their roles, in the manifest's order. ``signatures`` are the JWS blocks of a schema 1 manifest,
    each as one JSON object, ``declared_name`` and ``declared_tag`` what it says it is, and ``labels`` those of the
    image, whose config is in the manifest; other formats have none of these.
    """

    media_type: str
    payload: bytes = field(repr=False)
    digest: Digest = field(compare=False)
    canonical: bytes = field(compare=False, repr=False)
    parts: tuple[Reference, ...] = field(compare=False, repr=False)
    subject: Descriptor | None = field(default=None, compare=False)
    annotations: Mapping[str, str] = field(default_factory=no_annotations, compare=False, repr=False)
    artifact_type: str | None = field(default=None, compare=False)
    config_media_type: str | None = field(default=None, compare=False)
    labels: Mapping[str, str] = field(default_factory=no_annotations, compare=False, repr=False)
    signatures: tuple[bytes, ...] = field(default=(), compare=False, repr=False)
    declared_name: str | None = field(default=None, compare=False)
    declared_tag: str | None = field(default=None, compare=False)

    def references(self) -> Sequence[Descriptor]:
        """Everything that the manifest needs, in its order; the subject is not needed."""
        return tuple(part.descriptor for part in self.parts)
