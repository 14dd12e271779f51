"""What two tenants have, and what exists nowhere but looks alike: the same lengths, the same shapes, other digests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from uuid import UUID

from distsql.oci.digest import Digest
from distsql.oci.manifest import OCI_IMAGE, OCI_INDEX, ParsedManifest, parse

_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_SIGNATURE: Final = "application/vnd.cncf.notary.signature"
_INSTANT: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:\d\d)|\w{3}, \d\d \w{3} \d{4} [\d:]+ GMT"
)
_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")

ENDED: Final = "ended"
"""A tag that was deleted."""


@dataclass(frozen=True)
class Stock:
    """One of everything, all of it called after one word."""

    tenant: str
    word: str
    uuid: UUID

    @property
    def name(self) -> str:
        """The repository that has it all."""
        return f"{self.tenant}/{self.word}"

    @property
    def removed(self) -> str:
        """A repository that was deleted."""
        return f"{self.tenant}/removed"

    @property
    def tag(self) -> str:
        return self.word

    @cached_property
    def blobs(self) -> dict[str, bytes]:
        """What is no manifest; ``gone`` was deleted."""
        return {each: f"the {each} of {self.word}".encode() for each in ("layer", "config", "gone layer")}

    @cached_property
    def manifests(self) -> dict[str, bytes]:
        """In the order in which they can be pushed; ``gone`` was deleted."""
        image = self._image()
        subject = {"mediaType": OCI_IMAGE, "digest": str(Digest.of(image)), "size": len(image)}
        return {
            "image": image,
            "gone image": self._image(annotations={"gone": self.word}),
            "index": self._index(image),
            "referrer": self._image(subject=subject, artifactType=_SIGNATURE, annotations={"of": self.word}),
            "cosign signature": self._image(annotations={"signs": str(Digest.of(image))}),
        }

    @cached_property
    def contents(self) -> dict[str, bytes]:
        return {**self.blobs, **self.manifests}

    def digest(self, kind: str) -> Digest:
        return Digest.of(self.contents[kind])

    def parsed(self, kind: str) -> ParsedManifest:
        return parse(self.manifests[kind])

    def parent(self, kind: str) -> bytes:
        """A manifest that refers to it in every way that a manifest can."""
        content = self.contents[kind]
        reference = {"digest": str(Digest.of(content)), "size": len(content)}
        if kind in self.manifests:
            return self._index(content)
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_IMAGE,
                "config": {"mediaType": _CONFIG, **reference},
                "layers": [{"mediaType": _LAYER, **reference}],
                "subject": {"mediaType": OCI_IMAGE, **reference},
            }
        ).encode()

    def _image(self, **fields: object) -> bytes:
        config, layer = ({"digest": str(self.digest_of_blob(each)), "size": len(self.blobs[each])} for each in _PARTS)
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_IMAGE,
                "config": {"mediaType": _CONFIG, **config},
                "layers": [{"mediaType": _LAYER, **layer}],
                **fields,
            }
        ).encode()

    def digest_of_blob(self, kind: str) -> Digest:
        return Digest.of(self.blobs[kind])

    @staticmethod
    def _index(child: bytes) -> bytes:
        media_type = json.loads(child)["mediaType"]
        children = [{"mediaType": media_type, "digest": str(Digest.of(child)), "size": len(child)}]
        return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}).encode()

    def hide(self, text: str) -> str:
        """The text without what was asked for, and without what is new each time."""
        for kind in self.contents:
            for at, content in enumerate((self.contents[kind], self.parent(kind))):
                text = text.replace(content.hex(), f"<{kind} {at}>")
                text = text.replace(Digest.of(content).encoded, f"<digest of {kind} {at}>")
        text = text.replace(self.word, "<word>").replace(self.tenant, "<tenant>")
        return _UUID.sub("<uuid>", _INSTANT.sub("<instant>", text))


_PARTS: Final = ("config", "layer")
KINDS: Final = tuple(Stock("", "", UUID(int=0)).contents)
