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

from distsql.errors import ManifestInvalidError, ManifestUnverifiedError
from distsql.oci.descriptor import Descriptor
from distsql.oci.manifest.descriptors import read_digest, read_list, read_text
from distsql.oci.manifest.document import Document, malformed, read_document
from distsql.oci.manifest.image_config import read_labels
from distsql.oci.manifest.media_types import DOCKER_SCHEMA1_LAYER
from distsql.oci.manifest.parsed import Contents, Reference, Role
from distsql.oci.manifest.shapes import check_schema, refuse_other

MAX_SIGNATURES: Final = 16  # each costs a hash of the whole manifest and a verification

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*\Z", re.ASCII)


def read_schema1(document: Document, payload: bytes, *, signed: bool) -> Contents:
    """What a schema 1 manifest says; `ManifestInvalidError` where it breaks the format.

    Raises `ManifestUnverifiedError` when it has to be ``signed`` and has no signature, and when its signatures are of
    another text. Whether they are true is not looked at here, but by `distsql.oci.jws`.
    """
    blocks = _read_blocks(document)
    if signed and not blocks:
        raise ManifestUnverifiedError("the Content-Type says that the manifest is signed, but it has no signatures")
    canonical = _canonical(payload, blocks) if blocks else None
    if canonical is not None:
        document = _read_signed(canonical, document)
    check_schema(document, 1)
    refuse_other(document, "config", "layers", "manifests")
    return Contents(
        parts=_read_layers(document),
        labels=_read_labels(document),
        signatures=tuple(_compact(block) for block in blocks),
        declared_name=read_text(document, "name"),
        declared_tag=read_text(document, "tag"),
        canonical=canonical,
    )


def _read_signed(canonical: bytes, document: Document) -> Document:
    """What was signed: whoever reads that and whoever reads the whole must see the same."""
    unsigned = {name: value for name, value in document.items() if name != "signatures"}
    try:
        content = read_document(canonical)
    except ManifestInvalidError as error:
        raise _foreign(0) from error
    if _compact(content) != _compact(unsigned):
        raise _foreign(0)
    return content


def _foreign(position: int) -> ManifestUnverifiedError:
    where = f"signatures[{position}]"
    return ManifestUnverifiedError(f"{where}: signs another text than this manifest", detail={"at": where})


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


def _read_labels(document: Document) -> dict[str, str]:
    """Those of the image: its config is a text in the newest entry of the history, which nothing has to be right in."""
    newest = next(iter(read_list(document, "history")), None)
    config = newest.get("v1Compatibility") if isinstance(newest, dict) else None
    if not isinstance(config, str):
        return {}
    try:
        return read_labels(config.encode())
    except ManifestInvalidError:
        return {}


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
            raise _foreign(position)
    if length > len(payload):
        raise _foreign(0)
    return payload[:length] + tail


def _read_format(block: Document, position: int) -> tuple[int, bytes]:
    """``formatLength`` and ``formatTail`` of a signature's protected header."""
    at = ("signatures", position, "protected")
    try:
        header = read_document(decode_base64url(block.get("protected")))
        length, tail = header.get("formatLength"), decode_base64url(header.get("formatTail"))
    except ValueError:
        raise malformed("must be base64url without padding, and its formatTail too", at) from None
    if type(length) is not int or length < 0:
        raise malformed("formatLength must be a whole number of zero or more", at)
    return length, tail


def decode_base64url(text: object) -> bytes:
    """Base64url without padding (RFC 7515, section 2); else ValueError."""
    if not isinstance(text, str) or not _BASE64URL.match(text):
        raise ValueError
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError from None


def _compact(document: Document) -> bytes:
    """A signature block, or a whole document, in one form, so that the same one is known again."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
