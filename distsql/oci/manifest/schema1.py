"""Docker's first format, schema 1, bare and signed (distribution, docs/spec/manifest-v2-1.md).

A signed manifest carries its JSON Web Signatures in itself, in libtrust's "pretty" form: what was signed is the text
before the signatures were put in. Each signature's protected header tells how to get it back: the first
``formatLength`` bytes, and then ``formatTail``. That canonical text is what the digest is of, and what is read here.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Final

from distsql.errors import ManifestUnverifiedError
from distsql.oci.descriptor import Descriptor
from distsql.oci.manifest.descriptors import read_digest, read_list, read_text
from distsql.oci.manifest.document import Document, malformed, read_document
from distsql.oci.manifest.media_types import DOCKER_SCHEMA1_LAYER
from distsql.oci.manifest.parsed import Contents, ParsedManifest, Reference, Role
from distsql.oci.manifest.shapes import check_schema, refuse_other

MAX_SIGNATURES: Final = 100  # each costs the verification of a public key's signature

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*\Z", re.ASCII)


def read_schema1(document: Document, payload: bytes, *, signed: bool) -> Contents:
    """What a schema 1 manifest says; `ManifestInvalidError` where it breaks the format.

    Raises `ManifestUnverifiedError` when it has to be ``signed`` and has no signature. Whether signatures are true is
    not looked at here: `signing_inputs` has what they sign.
    """
    blocks = _read_blocks(document)
    if signed and not blocks:
        raise ManifestUnverifiedError("the Content-Type says that the manifest is signed, but it has no signatures")
    canonical = _canonical(payload, blocks) if blocks else None
    if canonical is not None:
        # Whoever reads the whole and whoever reads what was signed must see the same.
        content = read_document(canonical)
        if content != {name: value for name, value in document.items() if name != "signatures"}:
            raise malformed("the signed content is another than that of the manifest", ("signatures",))
        document = content
    check_schema(document, 1)
    refuse_other(document, "config", "layers", "manifests")
    return Contents(
        parts=_read_layers(document),
        signatures=tuple(_compact(block) for block in blocks),
        declared_name=read_text(document, "name"),
        declared_tag=read_text(document, "tag"),
        canonical=canonical,
    )


def signing_inputs(manifest: ParsedManifest) -> tuple[bytes, ...]:
    """What each of the manifest's signatures signs, in their order (RFC 7515, section 5.1: "JWS Signing Input")."""
    payload = base64.urlsafe_b64encode(manifest.canonical).rstrip(b"=")
    protected = (json.loads(signature)["protected"].encode() for signature in manifest.signatures)
    return tuple(header + b"." + payload for header in protected)


def _read_layers(document: Document) -> tuple[Reference, ...]:
    """The layers, newest first as written. The same one may come often; the format knows no sizes."""
    layers = []
    for position, layer in enumerate(read_list(document, "fsLayers")):
        at = ("fsLayers", position)
        if not isinstance(layer, dict):
            raise malformed("must be an object with a blobSum", at)
        digest = read_digest(layer, "blobSum", at)
        layers.append(Reference(Role.LAYER, Descriptor(DOCKER_SCHEMA1_LAYER, 0, digest)))
    history = len(read_list(document, "history"))
    if history not in (0, len(layers)):
        raise malformed(f"{history} entries for {len(layers)} fsLayers: there is one for each", ("history",))
    return tuple(layers)


def _read_blocks(document: Document) -> list[Document]:
    """The signature blocks: objects with a protected header and a signature, in base64url."""
    blocks: list[Document] = []
    for position, block in enumerate(read_list(document, "signatures")):
        at = ("signatures", position)
        if position == MAX_SIGNATURES:
            raise malformed(f"a manifest has at most {MAX_SIGNATURES} signatures", ("signatures",))
        if not isinstance(block, dict) or not isinstance(block.get("signature"), str):
            raise malformed("must be an object with a signature", at)
        if not isinstance(block.get("protected"), str):
            raise malformed("must be a string", (*at, "protected"))
        blocks.append(block)
    return blocks


def _canonical(payload: bytes, blocks: list[Document]) -> bytes:
    """The text that was signed, on which all signatures have to agree."""
    length, tail = _read_format(blocks[0], 0)
    for position, block in enumerate(blocks[1:], start=1):
        if _read_format(block, position) != (length, tail):
            raise malformed("signs another text than the first", ("signatures", position))
    if length > len(payload):
        raise malformed("formatLength is beyond the manifest's end", ("signatures", 0, "protected"))
    return payload[:length] + tail


def _read_format(block: Document, position: int) -> tuple[int, bytes]:
    """``formatLength`` and ``formatTail`` of a signature's protected header."""
    at = ("signatures", position, "protected")
    try:
        header = read_document(_decode(block.get("protected")))
        length, tail = header.get("formatLength"), _decode(header.get("formatTail"))
    except ValueError:
        raise malformed("must be base64url without padding, and its formatTail too", at) from None
    if type(length) is not int or length < 0:
        raise malformed("formatLength must be a whole number of zero or more", at)
    return length, tail


def _decode(text: object) -> bytes:
    """Base64url without padding (RFC 7515, section 2); else ValueError."""
    if not isinstance(text, str) or not _BASE64URL.match(text):
        raise ValueError
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError from None


def _compact(block: Document) -> bytes:
    """A signature block in one form, so that the same one is known again."""
    return json.dumps(block, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
